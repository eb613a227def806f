use std::fmt;

use jsonwebtoken::errors::ErrorKind;

/// Why a token is refused: for the log alone, and without anything that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    TooLong,
    UnknownKey,
    Algorithm,
    Critical,
    Type,
    Signature,
    Issuer,
    Audience,
    Expired,
    Early,
    Caller,
    Form,
}

impl From<jsonwebtoken::errors::Error> for Wrong {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::Early,
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            _ => Self::Form,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::UnknownKey => "its key isn't known",
            Self::Algorithm => "its key isn't for its algorithm",
            Self::Critical => "it has critical extensions",
            Self::Type => "it is no access token, or not of --jwt-type",
            Self::Signature => "its signature is wrong",
            Self::Issuer => "it is another issuer's",
            Self::Audience => "it is for another audience",
            Self::Expired => "it has expired",
            Self::Early => "it isn't valid yet",
            Self::Caller => "its subject can't be a caller's name",
            Self::Form => "it is no JWT, or a claim is missing or of the wrong type",
        })
    }
}
