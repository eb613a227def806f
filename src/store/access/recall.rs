//! Deciding from memory.

use crate::{
    domain::{Asked, Grant, GroupId, Question, RoleId, UserId, UserStatus, Verdict, decide},
    error::Result,
    store::{
        At, Glance,
        cache::{Group, RoleRules, User},
    },
};

/// Decides these questions from what is in memory; nothing if that can't be.
pub(super) async fn check(
    glance: &Glance<'_>,
    questions: &[(UserId, Question)],
) -> Result<Option<At<Vec<Verdict>>>> {
    let users = sorted(questions.iter().map(|(user, _)| *user));
    let Some(found) = glance.all::<User>(&users).await? else {
        return Ok(None);
    };
    let active = found
        .iter()
        .filter(|user| user.status == UserStatus::Active);
    let groups = sorted(active.flat_map(|user| user.groups.iter().copied()));
    let Some(groups) = glance.all::<Group>(&groups).await? else {
        return Ok(None);
    };
    let roles = sorted(groups.iter().flat_map(|group| group.roles.iter().copied()));
    let Some(roles) = glance.all::<RoleRules>(&roles).await? else {
        return Ok(None);
    };
    let held: Vec<_> = found
        .iter()
        .map(|user| held(user, &groups, &roles))
        .collect();
    let verdicts = questions.iter().map(|(id, question)| {
        // Every user of a question was looked for, and found: without that user there is no answer.
        let place = users.binary_search(id).ok()?;
        let asked = Asked::new(question);
        let grants = held[place].iter().filter_map(|(rules, group)| {
            Some(Grant {
                rule: rules.rules.deciding(&asked)?,
                role: &rules.role,
                group: &group.group,
            })
        });
        Some(decide(Some(found[place].status), grants, question))
    });
    let verdicts = verdicts.collect::<Option<_>>();
    Ok(verdicts.map(|value| At {
        value,
        revision: glance.revision(),
    }))
}

/// Every role that a user holds, once, with the group of the least id that gives it: of several, that one is named.
fn held<'a>(
    user: &User,
    groups: &'a [Group],
    roles: &'a [RoleRules],
) -> Vec<(&'a RoleRules, &'a Group)> {
    let mut held: Vec<(RoleId, GroupId, &Group)> = Vec::new();
    if user.status == UserStatus::Active {
        for id in user.groups.iter() {
            if let Ok(place) = groups.binary_search_by_key(id, |group| group.group.id) {
                let group = &groups[place];
                held.extend(group.roles.iter().map(|role| (*role, *id, group)));
            }
        }
    }
    held.sort_unstable_by_key(|(role, group, _)| (*role, *group));
    held.dedup_by_key(|(role, ..)| *role);
    let held = held.into_iter().filter_map(|(id, _, group)| {
        let place = roles
            .binary_search_by_key(&id, |rules| rules.role.id)
            .ok()?;
        Some((&roles[place], group))
    });
    held.collect()
}

fn sorted<T: Ord>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
