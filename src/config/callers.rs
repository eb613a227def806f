use clap::{Args, ValueEnum};

use crate::auth::{KeySource, PermissionGrant};

/// Authentication and permissions of callers.
#[derive(Args, Clone, Debug)]
pub struct Callers {
    /// Whether callers must authenticate: with a token (created by `group-service token create`), a JWT signed by a
    /// key in `--jwt-keys`, or a client certificate issued by `--tls-client-ca`; with `off`, every caller has all
    /// permissions
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_AUTHENTICATION",
        default_value = "off",
        value_name = "WHETHER"
    )]
    pub authentication: Authentication,

    /// Permissions of the caller whose certificate has this URI or DNS name, or whose JWT has this subject; a
    /// trailing `*` matches every longer name with that prefix; prefix the caller with `certificate:` or `jwt:` to
    /// match only that kind of credential, which is required if both are configured; repeatable
    #[arg(
        long = "grant",
        global = true,
        env = "GROUP_SERVICE_GRANTS",
        value_name = "CALLER=PERMISSIONS",
        value_delimiter = ' ',
        value_parser = PermissionGrant::parse
    )]
    pub grants: Vec<PermissionGrant>,

    /// JWK set with the public keys of the JWT issuer: a file, reloaded when it changes, or an `https://` URL
    /// (`http://` on loopback), reloaded every 5 minutes and when a token names an unknown key
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_KEYS",
        hide_env_values = true,
        value_name = "FILE|URL",
        value_parser = KeySource::parse
    )]
    pub jwt_keys: Option<KeySource>,

    /// Required issuer of JWTs: their `iss` claim
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_ISSUER",
        value_name = "ISSUER"
    )]
    pub jwt_issuer: Option<String>,

    /// Required audience of JWTs: their `aud` claim, or one of its values
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_AUDIENCE",
        value_name = "AUDIENCE"
    )]
    pub jwt_audience: Option<String>,

    /// Required type of JWTs: the `typ` header, such as `at+jwt` (RFC 9068). By default `typ` may be absent, `JWT`
    /// or `at+jwt`
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_JWT_TYPE",
        value_name = "TYPE"
    )]
    pub jwt_type: Option<String>,
}

impl Callers {
    /// Keys, issuer and audience of accepted JWTs; `None` unless all three are set.
    #[must_use]
    pub fn jwt(&self) -> Option<(&KeySource, &String, &String)> {
        let keys = self.jwt_keys.as_ref()?;
        let issuer = self.jwt_issuer.as_ref()?;
        Some((keys, issuer, self.jwt_audience.as_ref()?))
    }

    /// Checks that the settings are consistent with each other; appends what is wrong to `errors`.
    pub(super) fn check(&self, certificates: bool, errors: &mut Vec<String>) {
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
            errors.push("JWTs take --jwt-keys, --jwt-issuer and --jwt-audience".to_owned());
        }
        if any && *authentication == Authentication::Off {
            errors.push("--jwt-keys takes --authentication required".to_owned());
        }
        if any && certificates && !grants.iter().all(PermissionGrant::restricts_credential) {
            let reason = "--grant: with --tls-client-ca and --jwt-keys, each caller must begin with \
                          `certificate:` or `jwt:`";
            errors.push(reason.to_owned());
        }
    }
}

/// Whether callers must authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Authentication {
    /// Every caller has all permissions.
    Off,
    /// Callers need a token, a JWT or a client certificate.
    Required,
}
