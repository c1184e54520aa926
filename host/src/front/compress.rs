//! Content coding: which one a client takes, and the coding itself.
//!
//! What is sent many times (assets, cached pages) is coded once and well; what
//! is sent once is coded fast. Clients that ask for nothing pay nothing.

use std::io::Write;

use bytes::Bytes;
use http::HeaderValue;

use super::headers::quality_of;

/// Below this a coding saves no packet.
pub const BYTES_MIN: usize = 1 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Brotli,
    Zstd,
}

impl Encoding {
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Encoding::Gzip => "gzip",
            Encoding::Brotli => "br",
            Encoding::Zstd => "zstd",
        })
    }
}

/// The first of `offered` among those the client likes best.
pub fn choose(accept_encoding: Option<&HeaderValue>, offered: &[Encoding]) -> Option<Encoding> {
    let header = accept_encoding?.to_str().ok()?;
    let mut best: Option<(f32, usize)> = None;
    for range in header.split(',').take(32) {
        let (name, quality) = quality_of(range);
        let encoding = match name {
            "gzip" | "x-gzip" => Encoding::Gzip,
            "br" => Encoding::Brotli,
            "zstd" => Encoding::Zstd,
            _ => continue,
        };
        let Some(rank) = offered.iter().position(|o| *o == encoding) else { continue };
        if quality > 0.0 && best.is_none_or(|(q, r)| quality > q || (quality == q && rank < r)) {
            best = Some((quality, rank));
        }
    }
    best.map(|(_, rank)| offered[rank])
}

pub fn is_compressible(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let kind = text.split(';').next().unwrap_or("").trim();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(kind, "application/json" | "application/javascript" | "application/xml" | "application/manifest+json" | "application/wasm")
}

/// For bodies sent many times; nothing where it does not help.
pub fn once(encoding: Encoding, body: &[u8]) -> Option<Bytes> {
    code(encoding, body, 6, 5, 9)
}

/// For bodies sent once.
pub fn fast(encoding: Encoding, body: &[u8]) -> Option<Bytes> {
    code(encoding, body, 1, 1, 1)
}

fn code(encoding: Encoding, body: &[u8], gzip: u32, brotli: i32, zstd: i32) -> Option<Bytes> {
    if body.len() < BYTES_MIN {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() / 3);
    // Writing to memory does not fail; if a coder does, the plain body is right too.
    match encoding {
        Encoding::Gzip => {
            let mut coder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::new(gzip));
            coder.write_all(body).ok()?;
            coder.finish().ok()?;
        }
        Encoding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams { quality: brotli, lgwin: 20, size_hint: body.len(), ..Default::default() };
            brotli::BrotliCompress(&mut &body[..], &mut out, &params).ok()?;
        }
        Encoding::Zstd => zstd::stream::copy_encode(body, &mut out, zstd).ok()?,
    }
    (out.len() < body.len()).then(|| out.into())
}
