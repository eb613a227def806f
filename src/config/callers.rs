use clap::{Args, ValueEnum};

use crate::auth::Grant;

/// Who may call.
#[derive(Args, Clone, Debug)]
pub struct Callers {
    /// Whether callers must be known: by a token, which `group-service token` makes, or by a certificate of
    /// `--tls-client-ca`; with `off` everybody may do everything
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_AUTHENTICATION",
        default_value = "off",
        value_name = "WHETHER"
    )]
    pub authentication: Authentication,

    /// What callers may do who are known by a certificate of this name (URI or DNS name), or of one that begins so
    /// if it ends with `*`; may be given several times
    #[arg(
        long = "grant",
        global = true,
        env = "GROUP_SERVICE_GRANTS",
        value_name = "CALLER=PERMISSIONS",
        value_delimiter = ' ',
        value_parser = Grant::parse
    )]
    pub grants: Vec<Grant>,
}

/// How callers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Authentication {
    /// Not at all.
    Off,
    /// By a token or a certificate.
    Required,
}
