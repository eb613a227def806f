//! The calls of the load: each on a shared connection, with its own number.

use std::{
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crate::channel::Channel;
use group_service::pb::{
    self, access_service_client::AccessServiceClient, group_service_client::GroupServiceClient,
};

use crate::directory::Directory;

/// Makes one call on this connection, with this number. A failure ends the run.
pub(crate) type Call =
    Arc<dyn Fn(Channel, u64) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Creates a call from a function.
pub(crate) fn call<F, R>(f: F) -> Call
where
    F: Fn(Channel, u64) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |channel, number| Box::pin(f(channel, number)))
}

/// Picks an element by number.
fn pick<T>(of: &[T], number: u64) -> &T {
    &of[(number % of.len() as u64) as usize]
}

/// Gets one of these groups.
pub(crate) fn get_group(ids: Vec<String>) -> Call {
    call(move |channel, number| {
        let group_id = pick(&ids, number).clone();
        async move {
            let request = pb::GetGroupRequest {
                group_id,
                min_revision: 0,
            };
            let answer = GroupServiceClient::new(channel).get_group(request).await;
            answer.expect("answered");
        }
    })
}

/// Lists the roles of one of these groups.
pub(crate) fn list_roles_in_group(ids: Vec<String>) -> Call {
    call(move |channel, number| {
        let group_id = pick(&ids, number).clone();
        async move {
            let request = pb::ListRolesInGroupRequest {
                group_id,
                ..Default::default()
            };
            let answer = GroupServiceClient::new(channel)
                .list_roles_in_group(request)
                .await;
            answer.expect("answered");
        }
    })
}

/// Checks one of these questions.
pub(crate) fn check_access(questions: Vec<pb::CheckAccessRequest>) -> Call {
    call(move |channel, number| {
        let question = pick(&questions, number).clone();
        async move {
            let answer = AccessServiceClient::new(channel)
                .check_access(question)
                .await;
            answer.expect("answered");
        }
    })
}

/// Checks one of these batches of questions.
pub(crate) fn batch_check_access(batches: Vec<pb::BatchCheckAccessRequest>) -> Call {
    call(move |channel, number| {
        let batch = pick(&batches, number).clone();
        async move {
            let answer = AccessServiceClient::new(channel)
                .batch_check_access(batch)
                .await;
            answer.expect("answered");
        }
    })
}

/// Checks one of these questions, with a Zipf distribution: the second half as often as the first, the third a
/// third as often, and so on.
pub(crate) fn check_access_by_rank(questions: Vec<pb::CheckAccessRequest>) -> Call {
    let mut sum = 0.0;
    let ranks = 1..=questions.len();
    let sums: Vec<f64> = ranks
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let check = check_access(questions);
    call(move |channel, number| {
        // Multiples of the golden ratio are evenly distributed and in no apparent order.
        let place = (number as f64 * 0.618_033_988_749_895).fract() * sum;
        let rank = sums.partition_point(|sum| *sum < place);
        check(channel, rank as u64)
    })
}

/// Start time of this run, in Unix seconds: it distinguishes runs on a directory that is reused.
pub(crate) fn began() -> u64 {
    static BEGAN: LazyLock<u64> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("after 1970").as_secs()
    });
    *BEGAN
}

/// Adds a user to a group, a different pair in each call.
pub(crate) fn assign_user(directory: &Directory) -> Call {
    let next = AtomicU64::new(began() << 12);
    let directory = directory.clone();
    call(move |channel, _| {
        let (group, user) = directory.disjoint_pair(next.fetch_add(1, Ordering::Relaxed));
        assign(channel, directory.group(group), directory.user(user))
    })
}

/// Adds one of these users to one of these groups, a different pair in each call.
pub(crate) fn assign_users(groups: Vec<String>, users: Vec<String>) -> Call {
    let next = AtomicU64::new(0);
    call(move |channel, _| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let user = number / groups.len() as u64;
        assert!(user < users.len() as u64, "all are in all groups by now");
        assign(
            channel,
            pick(&groups, number).clone(),
            pick(&users, user).clone(),
        )
    })
}

async fn assign(channel: Channel, group_id: String, user_id: String) {
    let request = pb::AssignUserRequest {
        group_id,
        user_id,
        ..Default::default()
    };
    let answer = GroupServiceClient::new(channel).assign_user(request).await;
    answer.expect("assigned");
}

/// Makes these calls in turn.
pub(crate) fn in_turn<const N: usize>(calls: [Call; N]) -> Call {
    call(move |channel, number| pick(&calls, number)(channel, number / N as u64))
}

/// Creates a group with these roles.
pub(crate) fn create_group(role_ids: Vec<String>) -> Call {
    call(move |channel, number| {
        let role_ids = role_ids.clone();
        async move {
            let title = format!("Night shift {number}");
            let request = pb::CreateGroupRequest {
                title,
                role_ids,
                ..Default::default()
            };
            let answer = GroupServiceClient::new(channel).create_group(request).await;
            answer.expect("created");
        }
    })
}

/// A question about a user of the directory that is allowed by a rule.
pub(crate) fn question(directory: &Directory, user: u64, number: u64) -> pb::CheckAccessRequest {
    let [bundle, controller, action] = directory.allowed(user, number);
    pb::CheckAccessRequest {
        user_id: directory.user(user),
        bundle,
        controller,
        action,
        min_revision: 0,
    }
}
