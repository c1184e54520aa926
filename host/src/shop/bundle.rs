//! `.souk` bundles: one file that holds a version of a plugin, signed by its
//! publisher.
//!
//! A zstd-compressed tar of `bundle.json`, `bundle.sig` if it is signed, and
//! the files that `bundle.json` lists with size and SHA-256: `plugin.toml`,
//! `plugin.wasm`, `assets/`, a licence, a list of parts (SBOM). The signature is
//! Ed25519 over the bytes of `bundle.json`, so that no byte of any file can
//! change. Many bytes of a compressed tar could change without changing any file:
//! the seal at its end, a SHA-256 of all bytes before it, tells those from whole
//! ones. A bundle comes from strangers: nothing is written before all of it was
//! read within its limits and compared.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::load::Files;
use crate::files::sha256_hex;

const BUNDLE_BYTES_MAX: u64 = 64 << 20;
const CONTENT_BYTES_MAX: u64 = 128 << 20;
const FILES_MAX: usize = 1_500;
const PATH_BYTES_MAX: usize = 200;
const LISTING: &str = "bundle.json";
const SIGNATURE: &str = "bundle.sig";
/// Beside the folder `assets`.
const NAMES: [&str; 6] = ["plugin.toml", "plugin.wasm", "LICENSE", "NOTICE", "README.md", "sbom.cdx.json"];
/// How public keys are written.
const KEY_PREFIX: &str = "ed25519:";
const FORMAT: u32 = 1;
/// The seal is a skippable frame of zstd (RFC 8878, 3.1.2), which `zstd -d` passes
/// over: its magic number, its length, and a SHA-256.
const SEAL_HEADER: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    format: u32,
    name: String,
    version: semver::Version,
    /// Who claims to have made it. Only a key of the shop's own list counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    files: BTreeMap<String, File>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    size: u64,
    sha256: String,
}

/// A bundle that was read whole and is consistent.
#[derive(Debug)]
pub struct Bundle {
    pub name: String,
    pub version: semver::Version,
    /// The key that it is signed with, written `ed25519:…`.
    pub key: Option<String>,
    contents: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        let mut bytes = Vec::new();
        file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        ensure!(bytes.len() as u64 <= BUNDLE_BYTES_MAX, "{}: a bundle has at most {BUNDLE_BYTES_MAX} bytes", path.display());
        Self::from_bytes(&bytes).with_context(|| format!("{} is no bundle to be trusted", path.display()))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut contents = unpack(unsealed(bytes)?)?;
        let listing_bytes = contents.remove(LISTING).with_context(|| format!("{LISTING} is missing"))?;
        let signature = contents.remove(SIGNATURE);
        let listing: Listing = serde_json::from_slice(&listing_bytes).context(LISTING)?;
        ensure!(listing.format == FORMAT, "{LISTING} is of format {}; this host knows format {FORMAT}", listing.format);
        let key = match (listing.key, signature) {
            (Some(key), Some(signature)) => {
                let signature = Signature::from_slice(&signature).context("the signature is malformed")?;
                public_key(&key)?.verify_strict(&listing_bytes, &signature).context("the signature does not fit")?;
                Some(key)
            }
            (None, None) => None,
            (Some(_), None) => bail!("it names a key, but the signature is missing"),
            (None, Some(_)) => bail!("it is signed, but names no key"),
        };
        for (path, file) in &listing.files {
            let content = contents.get(path).with_context(|| format!("{path} is listed and missing"))?;
            let digest = sha256_hex(content);
            ensure!(content.len() as u64 == file.size && digest == file.sha256, "{path} is not what was packed");
        }
        if let Some(path) = contents.keys().find(|path| !listing.files.contains_key(*path)) {
            bail!("{path} is not listed");
        }
        let bundle = Self { name: listing.name, version: listing.version, key, contents };
        let manifest = bundle.files()?.manifest;
        ensure!(
            (&manifest.name, &manifest.version) == (&bundle.name, &bundle.version),
            "{LISTING} and plugin.toml differ in name or version"
        );
        Ok(bundle)
    }

    pub fn files(&self) -> Result<Files> {
        let part = |name: &str| self.contents.get(name).with_context(|| format!("{name} is missing"));
        let files = Files::of(part("plugin.toml")?, part("plugin.wasm")?.clone())?;
        Ok(files.with_assets(self.contents.iter().filter_map(|(path, content)| Some((path.strip_prefix("assets/")?, &content[..])))))
    }

    /// Into an empty folder.
    pub fn write_to(&self, folder: &Path) -> Result<()> {
        for (path, content) in &self.contents {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            std::fs::write(&path, content).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// Packs a plugin's folder; signed where a key is given.
pub fn pack(folder: &Path, key: Option<&SigningKey>) -> Result<Vec<u8>> {
    let files = Files::read(folder)?;
    let mut contents = BTreeMap::new();
    for name in NAMES {
        let path = folder.join(name);
        if path.is_file() {
            contents.insert(name.to_owned(), std::fs::read(&path).with_context(|| path.display().to_string())?);
        }
    }
    for asset in crate::front::assets::load(&files.manifest.name, &folder.join("assets"))? {
        contents.insert(format!("assets/{}", asset.path), asset.body.to_vec());
    }
    let listing = Listing {
        format: FORMAT,
        name: files.manifest.name,
        version: files.manifest.version,
        key: key.map(|key| written(&key.verifying_key())),
        files: contents.iter().map(|(path, content)| (path.clone(), File { size: content.len() as u64, sha256: sha256_hex(content) })).collect(),
    };
    Ok(sealed(archive(&serde_json::to_vec_pretty(&listing)?, key, &contents)?))
}

fn archive(listing: &[u8], key: Option<&SigningKey>, contents: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 19)?);
    // The same input gives the same bytes: no times, no owners.
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content)
    };
    add(LISTING, listing)?;
    if let Some(key) = key {
        add(SIGNATURE, &key.sign(listing).to_bytes())?;
    }
    for (path, content) in contents {
        add(path, content)?;
    }
    Ok(archive.into_inner()?.finish()?)
}

fn sealed(mut archive: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&archive);
    archive.extend_from_slice(&SEAL_HEADER);
    archive.extend_from_slice(&digest);
    archive
}

/// The archive, if no byte of it has changed since it was packed.
fn unsealed(bytes: &[u8]) -> Result<&[u8]> {
    let parts = bytes.split_last_chunk::<32>().and_then(|(rest, digest)| Some((rest.strip_suffix(&SEAL_HEADER)?, digest)));
    let (archive, digest) = parts.context("its seal is missing: it was cut off, or packed by something other than `souk plugin pack`")?;
    ensure!(*Sha256::digest(archive) == *digest, "it is not what was packed: a byte of it has changed");
    Ok(archive)
}

fn unpack(compressed: impl Read) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut decoder = zstd::Decoder::new(compressed)?;
    // A window of 128 MiB is what a bundle may hold in all.
    decoder.window_log_max(27)?;
    // One byte more than allowed tells that there is more.
    let mut archive = tar::Archive::new(decoder.take(CONTENT_BYTES_MAX + (FILES_MAX as u64) * 2_048 + 1));
    let (mut contents, mut bytes) = (BTreeMap::new(), 0);
    for entry in archive.entries()? {
        let mut entry = entry.context("it cannot be unpacked")?;
        ensure!(entry.header().entry_type().is_file(), "it holds something that is not a plain file");
        let path = std::str::from_utf8(&entry.path_bytes()).context("a path is not UTF-8")?.to_owned();
        ensure!(is_allowed(&path), "the path `{}` has no place in a bundle", path.escape_debug());
        ensure!(contents.len() < FILES_MAX, "more than {FILES_MAX} files");
        bytes += entry.size();
        ensure!(bytes <= CONTENT_BYTES_MAX, "more than {CONTENT_BYTES_MAX} bytes when unpacked");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).with_context(|| format!("{path} cannot be unpacked"))?;
        ensure!(contents.insert(path.clone(), content).is_none(), "{path} is there twice");
    }
    Ok(contents)
}

fn is_allowed(path: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if path.len() > PATH_BYTES_MAX {
        return false;
    }
    match path.strip_prefix("assets/") {
        Some(below) => below.split('/').all(is_plain),
        None => [LISTING, SIGNATURE].contains(&path) || NAMES.contains(&path),
    }
}

/// `ed25519:` and base64.
pub fn public_key(text: &str) -> Result<VerifyingKey> {
    let bytes = text.strip_prefix(KEY_PREFIX).and_then(|text| BASE64.decode(text).ok()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let bytes = bytes.with_context(|| format!("`{text}` is no public key: one is written `{KEY_PREFIX}` and 44 characters, as `souk plugin key` prints it"))?;
    VerifyingKey::from_bytes(&bytes).with_context(|| format!("`{text}` is no public key"))
}

pub fn written(key: &VerifyingKey) -> String {
    format!("{KEY_PREFIX}{}", BASE64.encode(key.as_bytes()))
}

/// A secret key's file: its base64, readable by its owner alone.
pub fn read_secret_key(path: &Path) -> Result<SigningKey> {
    use std::os::unix::fs::PermissionsExt;
    let shown = || path.display().to_string();
    let mode = std::fs::metadata(path).with_context(shown)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{}: others may read it. Run: chmod 600 {0}", path.display());
    let text = std::fs::read_to_string(path).with_context(shown)?;
    let bytes = BASE64.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(SigningKey::from_bytes(&bytes.with_context(|| format!("{}: no key of `souk plugin key`", path.display()))?))
}

/// Makes a key; a file that is there is never overwritten.
pub fn make_secret_key(path: &Path) -> Result<SigningKey> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(|| path.display().to_string())?;
    writeln!(file, "{}", BASE64.encode(seed))?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugin.toml"), "name = \"demo\"\nversion = \"1.0.0\"\n").unwrap();
        std::fs::write(folder.path().join("plugin.wasm"), b"\0asm").unwrap();
        std::fs::create_dir(folder.path().join("assets")).unwrap();
        std::fs::write(folder.path().join("assets/a.css"), "a{}").unwrap();
        folder
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn packed(key: Option<&SigningKey>) -> Vec<u8> {
        pack(folder().path(), key).unwrap()
    }

    fn bundle(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            // `append_data` would refuse what an attacker writes.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        sealed(archive.into_inner().unwrap().finish().unwrap())
    }

    #[test]
    fn what_is_packed_is_unpacked_with_its_signer() {
        let bundle = Bundle::from_bytes(&packed(Some(&key()))).unwrap();
        assert_eq!(bundle.key, Some(written(&key().verifying_key())));
        assert_eq!(public_key(bundle.key.as_ref().unwrap()).unwrap(), key().verifying_key());
        let out = tempfile::tempdir().unwrap();
        bundle.write_to(out.path()).unwrap();
        assert_eq!(std::fs::read(out.path().join("assets/a.css")).unwrap(), b"a{}");
        assert_eq!(Bundle::from_bytes(&packed(None)).unwrap().key, None);
        assert_eq!(packed(Some(&key())), packed(Some(&key())), "the same bytes each time");
    }

    #[test]
    fn a_change_of_any_byte_is_refused() {
        let good = packed(Some(&key()));
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            assert!(Bundle::from_bytes(&bad).is_err(), "byte {place}");
        }
    }

    /// Sealed again, as an attacker would.
    #[test]
    fn a_change_of_any_byte_of_a_file_is_refused() {
        let good = unpack(unsealed(&packed(Some(&key()))).unwrap()).unwrap();
        for (path, content) in &good {
            for place in 0..content.len() {
                let mut bad = good.clone();
                bad.get_mut(path).unwrap()[place] ^= 1;
                let entries: Vec<_> = bad.iter().map(|(path, content)| (path.as_str(), &content[..])).collect();
                assert!(Bundle::from_bytes(&bundle(&entries)).is_err(), "{path}, byte {place}");
            }
            let mut bad = good.clone();
            bad.remove(path);
            let entries: Vec<_> = bad.iter().map(|(path, content)| (path.as_str(), &content[..])).collect();
            assert!(Bundle::from_bytes(&bundle(&entries)).is_err(), "{path} taken out");
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["../x", "/etc/passwd", "assets/../../x", "assets/..", "assets/.hidden", "assets//x", "assets/a b", "grants.toml", "assets\\x"] {
            let error = Bundle::from_bytes(&bundle(&[(path, b"x")])).unwrap_err();
            assert!(error.to_string().contains("has no place"), "{path}: {error}");
        }
    }

    #[test]
    fn links_are_refused() {
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "plugin.wasm", "/etc/passwd").unwrap();
        let bytes = sealed(archive.into_inner().unwrap().finish().unwrap());
        assert!(Bundle::from_bytes(&bytes).unwrap_err().to_string().contains("not a plain file"));
    }

    #[test]
    fn what_unpacks_without_end_is_stopped() {
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_size(CONTENT_BYTES_MAX + 1);
        archive.append_data(&mut header, "plugin.wasm", std::io::repeat(0).take(CONTENT_BYTES_MAX + 1)).unwrap();
        let bomb = sealed(archive.into_inner().unwrap().finish().unwrap());
        assert!(bomb.len() < 100_000);
        let error = Bundle::from_bytes(&bomb).unwrap_err();
        assert!(error.to_string().contains("bytes when unpacked"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2_000), cut in 0_usize..400) {
            let _ = Bundle::from_bytes(&bytes);
            let _ = Bundle::from_bytes(&sealed(bytes.clone()));
            let good = packed(None);
            let good = unsealed(&good).unwrap();
            let _ = Bundle::from_bytes(&sealed(good[..good.len().saturating_sub(cut)].to_vec()));
            let entries: Vec<(&str, &[u8])> = vec![(LISTING, &bytes)];
            let _ = Bundle::from_bytes(&bundle(&entries));
        }
    }
}
