//! Typed ids: a group's id can't be passed for a user's.

use sea_orm::{DbErr, TryFromU64, prelude::Uuid};

/// Common operations of typed ids.
pub trait Id: Copy + Eq + Ord + std::hash::Hash {
    /// Parses a hyphenated UUID; a caller may write it in either case.
    ///
    /// # Errors
    /// `None` if the text is not a UUID in its hyphenated form of 36 characters.
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sea_orm::DeriveValueType)]
        pub struct $name(Uuid);

        impl $name {
            /// Generates a new id: a UUIDv7, so that later ids sort later.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id of these bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The UUID itself.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl Id for $name {
            fn parse(text: &str) -> Option<Self> {
                // The length rules out the braced, URN and unhyphenated forms.
                (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )+};
}

ids! {
    /// The id of a group.
    GroupId
    /// The id of a role.
    RoleId
    /// The id of a user.
    UserId
    /// The id that a caller gives to a request, so that the request can be retried safely.
    RequestId
    /// The id of a directory's history, which changes after a restore from a backup.
    HistoryId
    /// The id of a token.
    TokenId
}
