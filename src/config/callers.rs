use clap::{Args, ValueEnum};

use crate::auth::{Grant, Source};

/// Who may call.
#[derive(Args, Clone, Debug)]
pub struct Callers {
    /// Whether callers must be known: by a token, which `group-service token` makes, by a JWT of
    /// `--jwt-keys`, or by a certificate of `--tls-client-ca`; with `off` everybody may do everything
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_AUTHENTICATION",
        default_value = "off",
        value_name = "WHETHER"
    )]
    pub authentication: Authentication,

    /// What callers may do who are known by a certificate of this name (URI or DNS name) or by a JWT of this
    /// subject, or of one that begins so and goes on if it ends with `*`; `certificate:` or `jwt:` before the caller
    /// restricts it to one of them, and must be there if both are set up; may be given several times
    #[arg(
        long = "grant",
        global = true,
        env = "GROUP_SERVICE_GRANTS",
        value_name = "CALLER=PERMISSIONS",
        value_delimiter = ' ',
        value_parser = Grant::parse
    )]
    pub grants: Vec<Grant>,

    /// The keys of the issuer of callers' JWTs, a JWK set: a file, which is read again when it changes, or an
    /// `https://` URL, which is read every 5 minutes and when a token names a key that isn't known
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_KEYS",
        hide_env_values = true,
        value_name = "FILE|URL",
        value_parser = Source::parse
    )]
    pub jwt_keys: Option<Source>,

    /// The issuer that JWTs must be of: their `iss`
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_ISSUER",
        value_name = "ISSUER"
    )]
    pub jwt_issuer: Option<String>,

    /// The audience that JWTs must be for: their `aud`, or one of it
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_AUDIENCE",
        value_name = "AUDIENCE"
    )]
    pub jwt_audience: Option<String>,

    /// The type that JWTs must say they are of: the `typ` of their header, such as `at+jwt` (RFC 9068). Without it, a
    /// token may have none, or be `JWT` or `at+jwt`
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_TYPE",
        value_name = "TYPE"
    )]
    pub jwt_type: Option<String>,
}

impl Callers {
    /// Which JWTs callers are known by: keys, issuer and audience.
    #[must_use]
    pub fn jwt(&self) -> Option<(&Source, &String, &String)> {
        let keys = self.jwt_keys.as_ref()?;
        let issuer = self.jwt_issuer.as_ref()?;
        Some((keys, issuer, self.jwt_audience.as_ref()?))
    }

    /// Whether the settings go together: what is wrong with them is added to `mistakes`.
    pub(super) fn check(&self, certificates: bool, mistakes: &mut Vec<String>) {
        let Self {
            authentication,
            jwt_keys,
            jwt_issuer,
            jwt_audience,
            jwt_type,
            grants,
        } = self;
        let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let any = jwt_keys.is_some()
            || [jwt_issuer, jwt_audience, jwt_type]
                .iter()
                .any(|set| set.is_some());
        if any && !(jwt_keys.is_some() && said(jwt_issuer) && said(jwt_audience)) {
            mistakes.push("JWTs take --jwt-keys, --jwt-issuer and --jwt-audience".to_owned());
        }
        if any && *authentication == Authentication::Off {
            mistakes.push("--jwt-keys takes --authentication required".to_owned());
        }
        if any && certificates && !grants.iter().all(Grant::names_credential) {
            let reason = "--grant: with --tls-client-ca and --jwt-keys, each caller must begin with \
                          `certificate:` or `jwt:`";
            mistakes.push(reason.to_owned());
        }
    }
}

/// How callers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Authentication {
    /// Not at all.
    Off,
    /// By a token, a JWT or a certificate.
    Required,
}
