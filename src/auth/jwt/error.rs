use std::fmt;

use jsonwebtoken::errors::ErrorKind;

/// Why a token is rejected: for the log only, and without any content of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtError {
    TooLong,
    UnknownKey,
    Algorithm,
    CriticalHeader,
    Type,
    Signature,
    Issuer,
    Audience,
    Expired,
    NotYetValid,
    InvalidSubject,
    Malformed,
}

impl From<jsonwebtoken::errors::Error> for JwtError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            _ => Self::Malformed,
        }
    }
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::UnknownKey => "its key isn't known",
            Self::Algorithm => "its key isn't for its algorithm",
            Self::CriticalHeader => "it has critical extensions",
            Self::Type => "it is no access token, or not of --jwt-type",
            Self::Signature => "its signature is wrong",
            Self::Issuer => "it is another issuer's",
            Self::Audience => "it is for another audience",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it isn't valid yet",
            Self::InvalidSubject => "its subject can't be a caller's name",
            Self::Malformed => "it is no JWT, or a claim is missing or of the wrong type",
        })
    }
}
