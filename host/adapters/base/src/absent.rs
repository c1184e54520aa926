//! What languages import whether or not a program uses it, and what a shop does
//! not have: files, sockets, terminals. Nothing can be opened, so that what is
//! done with an open one is never called.

use crate::Base;
use crate::exports::wasi::cli::{terminal_input, terminal_output, terminal_stderr, terminal_stdin, terminal_stdout};
use crate::exports::wasi::clocks::monotonic_clock::Duration;
use crate::exports::wasi::filesystem::types::{
    Advice, Descriptor, DescriptorBorrow, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorBorrow, Filesize,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use crate::exports::wasi::filesystem::{preopens, types as filesystem};
use crate::exports::wasi::io::poll::Pollable;
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::exports::wasi::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Network, NetworkBorrow};
use crate::exports::wasi::sockets::tcp::{ShutdownType, TcpSocket};
use crate::exports::wasi::sockets::udp::{IncomingDatagram, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket};
use crate::exports::wasi::sockets::{instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket};
use crate::io::Never;
use crate::souk::host::log::{self, Level};

/// Methods of what there is none of.
macro_rules! never {
    ($($interface:ident::$resource:ident { $(fn $name:ident($($type:ty),*) -> $answer:ty;)* })*) => {
        $(impl $interface::$resource for Never {
            $(never!(@ $name ($($type),*) -> $answer);)*
        })*
    };
    (@ $name:ident () -> $answer:ty) => { fn $name(&self) -> $answer { match *self {} } };
    (@ $name:ident ($a:ty) -> $answer:ty) => { fn $name(&self, _: $a) -> $answer { match *self {} } };
    (@ $name:ident ($a:ty, $b:ty) -> $answer:ty) => { fn $name(&self, _: $a, _: $b) -> $answer { match *self {} } };
    (@ $name:ident ($a:ty, $b:ty, $c:ty) -> $answer:ty) => { fn $name(&self, _: $a, _: $b, _: $c) -> $answer { match *self {} } };
    (@ $name:ident ($a:ty, $b:ty, $c:ty, $d:ty) -> $answer:ty) => { fn $name(&self, _: $a, _: $b, _: $c, _: $d) -> $answer { match *self {} } };
}

type Files<T> = Result<T, filesystem::ErrorCode>;
type Sockets<T> = Result<T, ErrorCode>;

never! {
    filesystem::GuestDescriptor {
        fn read_via_stream(Filesize) -> Files<InputStream>;
        fn write_via_stream(Filesize) -> Files<OutputStream>;
        fn append_via_stream() -> Files<OutputStream>;
        fn advise(Filesize, Filesize, Advice) -> Files<()>;
        fn sync_data() -> Files<()>;
        fn get_flags() -> Files<DescriptorFlags>;
        fn get_type() -> Files<DescriptorType>;
        fn set_size(Filesize) -> Files<()>;
        fn set_times(NewTimestamp, NewTimestamp) -> Files<()>;
        fn read(Filesize, Filesize) -> Files<(Vec<u8>, bool)>;
        fn write(Vec<u8>, Filesize) -> Files<Filesize>;
        fn read_directory() -> Files<DirectoryEntryStream>;
        fn sync() -> Files<()>;
        fn create_directory_at(String) -> Files<()>;
        fn stat() -> Files<DescriptorStat>;
        fn stat_at(PathFlags, String) -> Files<DescriptorStat>;
        fn set_times_at(PathFlags, String, NewTimestamp, NewTimestamp) -> Files<()>;
        fn link_at(PathFlags, String, DescriptorBorrow<'_>, String) -> Files<()>;
        fn open_at(PathFlags, String, OpenFlags, DescriptorFlags) -> Files<Descriptor>;
        fn readlink_at(String) -> Files<String>;
        fn remove_directory_at(String) -> Files<()>;
        fn rename_at(String, DescriptorBorrow<'_>, String) -> Files<()>;
        fn symlink_at(String, String) -> Files<()>;
        fn unlink_file_at(String) -> Files<()>;
        fn is_same_object(DescriptorBorrow<'_>) -> bool;
        fn metadata_hash() -> Files<MetadataHashValue>;
        fn metadata_hash_at(PathFlags, String) -> Files<MetadataHashValue>;
    }
    filesystem::GuestDirectoryEntryStream {
        fn read_directory_entry() -> Files<Option<DirectoryEntry>>;
    }
    ip_name_lookup::GuestResolveAddressStream {
        fn resolve_next_address() -> Sockets<Option<IpAddress>>;
        fn subscribe() -> Pollable;
    }
    tcp::GuestTcpSocket {
        fn start_bind(NetworkBorrow<'_>, IpSocketAddress) -> Sockets<()>;
        fn finish_bind() -> Sockets<()>;
        fn start_connect(NetworkBorrow<'_>, IpSocketAddress) -> Sockets<()>;
        fn finish_connect() -> Sockets<(InputStream, OutputStream)>;
        fn start_listen() -> Sockets<()>;
        fn finish_listen() -> Sockets<()>;
        fn accept() -> Sockets<(TcpSocket, InputStream, OutputStream)>;
        fn local_address() -> Sockets<IpSocketAddress>;
        fn remote_address() -> Sockets<IpSocketAddress>;
        fn is_listening() -> bool;
        fn address_family() -> IpAddressFamily;
        fn set_listen_backlog_size(u64) -> Sockets<()>;
        fn keep_alive_enabled() -> Sockets<bool>;
        fn set_keep_alive_enabled(bool) -> Sockets<()>;
        fn keep_alive_idle_time() -> Sockets<Duration>;
        fn set_keep_alive_idle_time(Duration) -> Sockets<()>;
        fn keep_alive_interval() -> Sockets<Duration>;
        fn set_keep_alive_interval(Duration) -> Sockets<()>;
        fn keep_alive_count() -> Sockets<u32>;
        fn set_keep_alive_count(u32) -> Sockets<()>;
        fn hop_limit() -> Sockets<u8>;
        fn set_hop_limit(u8) -> Sockets<()>;
        fn receive_buffer_size() -> Sockets<u64>;
        fn set_receive_buffer_size(u64) -> Sockets<()>;
        fn send_buffer_size() -> Sockets<u64>;
        fn set_send_buffer_size(u64) -> Sockets<()>;
        fn subscribe() -> Pollable;
        fn shutdown(ShutdownType) -> Sockets<()>;
    }
    udp::GuestUdpSocket {
        fn start_bind(NetworkBorrow<'_>, IpSocketAddress) -> Sockets<()>;
        fn finish_bind() -> Sockets<()>;
        fn stream(Option<IpSocketAddress>) -> Sockets<(IncomingDatagramStream, OutgoingDatagramStream)>;
        fn local_address() -> Sockets<IpSocketAddress>;
        fn remote_address() -> Sockets<IpSocketAddress>;
        fn address_family() -> IpAddressFamily;
        fn unicast_hop_limit() -> Sockets<u8>;
        fn set_unicast_hop_limit(u8) -> Sockets<()>;
        fn receive_buffer_size() -> Sockets<u64>;
        fn set_receive_buffer_size(u64) -> Sockets<()>;
        fn send_buffer_size() -> Sockets<u64>;
        fn set_send_buffer_size(u64) -> Sockets<()>;
        fn subscribe() -> Pollable;
    }
    udp::GuestIncomingDatagramStream {
        fn receive(u64) -> Sockets<Vec<IncomingDatagram>>;
        fn subscribe() -> Pollable;
    }
    udp::GuestOutgoingDatagramStream {
        fn check_send() -> Sockets<u64>;
        fn send(Vec<OutgoingDatagram>) -> Sockets<u64>;
        fn subscribe() -> Pollable;
    }
}

impl filesystem::Guest for Base {
    type Descriptor = Never;
    type DirectoryEntryStream = Never;

    fn filesystem_error_code(error: ErrorBorrow<'_>) -> Option<filesystem::ErrorCode> {
        match *error.get::<Never>() {}
    }
}

impl preopens::Guest for Base {
    fn get_directories() -> Vec<(Descriptor, String)> {
        Vec::new()
    }
}

/// Has no way out.
pub struct NoNetwork;

impl network::GuestNetwork for NoNetwork {}

impl network::Guest for Base {
    type Network = NoNetwork;
}

impl instance_network::Guest for Base {
    fn instance_network() -> Network {
        Network::new(NoNetwork)
    }
}

fn refused<T>() -> Sockets<T> {
    log::write(Level::Warn, "wasi:sockets: a plugin has no sockets; use wasi:http/outgoing-handler, with [http] hosts in the manifest", &[]);
    Err(ErrorCode::AccessDenied)
}

impl ip_name_lookup::Guest for Base {
    type ResolveAddressStream = Never;

    fn resolve_addresses(_: NetworkBorrow<'_>, _: String) -> Sockets<ip_name_lookup::ResolveAddressStream> {
        refused()
    }
}

impl tcp::Guest for Base {
    type TcpSocket = Never;
}

impl tcp_create_socket::Guest for Base {
    fn create_tcp_socket(_: IpAddressFamily) -> Sockets<TcpSocket> {
        refused()
    }
}

impl udp::Guest for Base {
    type UdpSocket = Never;
    type IncomingDatagramStream = Never;
    type OutgoingDatagramStream = Never;
}

impl udp_create_socket::Guest for Base {
    fn create_udp_socket(_: IpAddressFamily) -> Sockets<UdpSocket> {
        refused()
    }
}

impl terminal_input::GuestTerminalInput for Never {}

impl terminal_input::Guest for Base {
    type TerminalInput = Never;
}

impl terminal_output::GuestTerminalOutput for Never {}

impl terminal_output::Guest for Base {
    type TerminalOutput = Never;
}

impl terminal_stdin::Guest for Base {
    fn get_terminal_stdin() -> Option<terminal_input::TerminalInput> {
        None
    }
}

impl terminal_stdout::Guest for Base {
    fn get_terminal_stdout() -> Option<terminal_output::TerminalOutput> {
        None
    }
}

impl terminal_stderr::Guest for Base {
    fn get_terminal_stderr() -> Option<terminal_output::TerminalOutput> {
        None
    }
}
