//! A network that a test makes up: where names and addresses lead stands in the
//! file `SOUK_NETWORK`, as lines `evil.example 203.0.114.1` and
//! `203.0.114.1:80 127.0.0.1:41234`. It is read at each call, so that a name may
//! lead elsewhere a moment later. Without it, all is as it is.

use std::ffi::{CStr, CString, c_char};
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{AF_INET, AF_INET6, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

fn leads_to(from: &str) -> Option<String> {
    let network = std::fs::read_to_string(std::env::var_os("SOUK_NETWORK")?).expect("SOUK_NETWORK can be read");
    network.lines().find_map(|line| Some(line.strip_prefix(from)?.strip_prefix(' ')?.to_owned()))
}

/// The address in place of a name, to be resolved as one.
pub fn name(name: *const c_char) -> Option<CString> {
    if name.is_null() {
        return None;
    }
    CString::new(leads_to(unsafe { CStr::from_ptr(name) }.to_str().ok()?)?).ok()
}

/// An address in the form of the system.
pub union Address {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// The address in place of an address.
///
/// # Safety
/// What `connect` asks for.
pub unsafe fn address(address: *const sockaddr, length: socklen_t) -> Option<(Address, socklen_t)> {
    match i32::from(unsafe { (*address).sa_family }) {
        AF_INET if length as usize >= mem::size_of::<sockaddr_in>() => {
            let mut v4 = unsafe { *address.cast::<sockaddr_in>() };
            let from = SocketAddrV4::new(v4.sin_addr.s_addr.to_ne_bytes().into(), u16::from_be(v4.sin_port));
            let SocketAddr::V4(to) = leads_to(&from.to_string())?.parse().ok()? else { return None };
            (v4.sin_addr.s_addr, v4.sin_port) = (u32::from_ne_bytes(to.ip().octets()), to.port().to_be());
            Some((Address { v4 }, length))
        }
        AF_INET6 if length as usize >= mem::size_of::<sockaddr_in6>() => {
            let mut v6 = unsafe { *address.cast::<sockaddr_in6>() };
            let from = SocketAddrV6::new(v6.sin6_addr.s6_addr.into(), u16::from_be(v6.sin6_port), 0, 0);
            let ip = match leads_to(&from.to_string())?.parse().ok()? {
                SocketAddr::V4(to) => (to.ip().to_ipv6_mapped(), to.port()),
                SocketAddr::V6(to) => (*to.ip(), to.port()),
            };
            (v6.sin6_addr.s6_addr, v6.sin6_port) = (ip.0.octets(), ip.1.to_be());
            Some((Address { v6 }, length))
        }
        _ => None,
    }
}
