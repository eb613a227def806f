use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

use super::parse::listen;

/// Listening address, TLS, compression and reflection.
#[derive(Args, Clone, Debug)]
pub struct Network {
    /// Address to listen on; port 0 selects a free port
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "IP:PORT",
        value_parser = listen
    )]
    pub listen: SocketAddr,

    /// Server certificate with its intermediate certificates, in PEM; reloaded when it changes
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_CERTIFICATE",
        value_name = "FILE"
    )]
    pub tls_certificate: Option<PathBuf>,

    /// Private key of the server certificate, in PEM
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_KEY",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Certificate authorities that client certificates are verified against, in PEM
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_CLIENT_CA",
        value_name = "FILE"
    )]
    pub tls_client_ca: Option<PathBuf>,

    /// Allow listening beyond loopback without authentication or without TLS
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

    /// Message compression: `gzip` accepts compressed requests, and compresses responses for clients that accept it
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_COMPRESSION",
        default_value = "off",
        value_name = "ENCODING"
    )]
    pub compression: Compression,

    /// Whether to serve gRPC reflection
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

/// Message compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// No compression.
    Off,
    /// gzip (RFC 1952).
    Gzip,
}
