//! Mixes of calls.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use group_service::pb::{self, group_service_client::GroupServiceClient};
use tonic::{Code, Status};

use super::end;
use crate::{
    calls::began,
    channel::Channel,
    directory::{Directory, Size},
};

/// Each group has sixty users, so that a page of 50 is always full.
pub(crate) const SIZE: Size = Size {
    groups: 500,
    users: 10_000,
    changes: 100_000,
};
const PAGE: i32 = 50;

/// A mix of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Three of four calls list a page of 50 (users of a group, or groups); one writes.
    Mixed,
    /// Writes only.
    Writes,
}

impl Mix {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Writes => "writes",
        }
    }

    pub(super) fn parse(name: &str) -> Self {
        let all = [Self::Mixed, Self::Writes];
        let found = all.into_iter().find(|mix| mix.name() == name);
        found.expect("a mix")
    }
}

/// The outcome of a call. Any other outcome ends the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    /// Rejected as `OVERLOADED`.
    Refused,
}

/// Makes one call on this connection, with this number.
pub(super) type Attempt =
    Arc<dyn Fn(Channel, u64) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// The calls of a mix.
pub(super) fn attempt(mix: Mix) -> Attempt {
    // Only used to compute ids from numbers: the server has the file.
    let directory = Directory {
        path: "none".into(),
        size: SIZE,
    };
    let pairs = AtomicU64::new(began() << 12);
    Arc::new(move |channel, number| {
        let mut client = GroupServiceClient::new(channel);
        let group_id = directory.group(number % SIZE.groups);
        match number % 4 {
            0 | 2 if mix == Mix::Mixed => {
                let request = pb::ListUsersInGroupRequest {
                    group_id,
                    page_size: PAGE,
                    ..Default::default()
                };
                Box::pin(async move { outcome(client.list_users_in_group(request).await) })
            }
            1 if mix == Mix::Mixed => {
                let request = pb::ListGroupsRequest {
                    page_size: PAGE,
                    ..Default::default()
                };
                Box::pin(async move { outcome(client.list_groups(request).await) })
            }
            _ => {
                let (group, user) = directory.disjoint_pair(pairs.fetch_add(1, Ordering::Relaxed));
                let request = pb::AssignUserRequest {
                    group_id: directory.group(group),
                    user_id: directory.user(user),
                    ..Default::default()
                };
                Box::pin(async move { outcome(client.assign_user(request).await) })
            }
        }
    })
}

fn outcome<T>(answer: Result<T, Status>) -> Outcome {
    let reason = b"OVERLOADED";
    match answer {
        Ok(_) => Outcome::Accepted,
        // The reason is in the error details.
        Err(status)
            if status.code() == Code::ResourceExhausted
                && status
                    .details()
                    .windows(reason.len())
                    .any(|part| part == reason) =>
        {
            Outcome::Refused
        }
        Err(status) => end(&format!("neither accepted nor refused: {status:?}")),
    }
}
