use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

use super::parse::listen;

/// Where it listens, and how connections are taken.
#[derive(Args, Clone, Debug)]
pub struct Network {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "IP:PORT",
        value_parser = listen
    )]
    pub listen: SocketAddr,

    /// The server's certificate and those between it and its authority, in PEM; read again when it changes
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_CERTIFICATE",
        value_name = "FILE"
    )]
    pub tls_certificate: Option<PathBuf>,

    /// The key of the server's certificate, in PEM
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_KEY",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// The authorities of callers' certificates, in PEM
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_CLIENT_CA",
        value_name = "FILE"
    )]
    pub tls_client_ca: Option<PathBuf>,

    /// Listen beyond loopback although callers aren't known, or what is sent can be read and changed on the way
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_INSECURE",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_name = "WHETHER",
        value_parser = clap::value_parser!(bool)
    )]
    pub insecure: bool,

    /// Whether calls may be compressed: `gzip` takes compressed requests, and compresses answers to callers who take
    /// that
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_COMPRESSION",
        default_value = "off",
        value_name = "ENCODING"
    )]
    pub compression: Compression,

    /// Whether tools may ask what the server can do: gRPC reflection
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_REFLECTION",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_name = "WHETHER",
        value_parser = clap::value_parser!(bool)
    )]
    pub reflection: bool,
}

/// How calls may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    Off,
    /// As RFC 1952 has it.
    Gzip,
}
