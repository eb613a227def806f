//! Access decisions from the cache.

use crate::{
    domain::{
        AccessRequest, Decision, EffectiveRule, GroupId, PreparedRequest, RoleId, UserId,
        UserStatus, decide,
    },
    error::Result,
    store::{
        AtRevision, CacheSnapshot,
        cache::{Group, RoleRules, User},
    },
};

/// Decides these questions from the cache; `None` if it doesn't have all that they need as of the snapshot's revision.
pub(super) async fn check(
    snapshot: &CacheSnapshot<'_>,
    questions: &[(UserId, AccessRequest)],
) -> Result<Option<AtRevision<Vec<Decision>>>> {
    let users = sorted(questions.iter().map(|(user, _)| *user));
    let Some(found) = snapshot.get_all::<User>(&users).await? else {
        return Ok(None);
    };
    let active = found
        .iter()
        .filter(|user| user.status == UserStatus::Active);
    let groups = sorted(active.flat_map(|user| user.groups.iter().copied()));
    let Some(groups) = snapshot.get_all::<Group>(&groups).await? else {
        return Ok(None);
    };
    let roles = sorted(groups.iter().flat_map(|group| group.roles.iter().copied()));
    let Some(roles) = snapshot.get_all::<RoleRules>(&roles).await? else {
        return Ok(None);
    };
    let role_assignments: Vec<_> = found
        .iter()
        .map(|user| role_assignments(user, &groups, &roles))
        .collect();
    let verdicts = questions.iter().map(|(id, question)| {
        // Every user was found above, or the function has returned.
        let place = users.binary_search(id).ok()?;
        let asked = PreparedRequest::new(question);
        let effective_rules = role_assignments[place].iter().filter_map(|(rules, group)| {
            Some(EffectiveRule {
                rule: rules.rules.deciding_rule(&asked)?,
                role: &rules.role,
                group: &group.group,
            })
        });
        Some(decide(Some(found[place].status), effective_rules, question))
    });
    let verdicts = verdicts.collect::<Option<_>>();
    Ok(verdicts.map(|value| AtRevision {
        value,
        revision: snapshot.revision(),
    }))
}

/// Every role that a user holds, once, with the group of the lowest id that has it: a decision names that group.
fn role_assignments<'a>(
    user: &User,
    groups: &'a [Group],
    roles: &'a [RoleRules],
) -> Vec<(&'a RoleRules, &'a Group)> {
    let mut role_assignments: Vec<(RoleId, GroupId, &Group)> = Vec::new();
    if user.status == UserStatus::Active {
        for id in user.groups.iter() {
            if let Ok(place) = groups.binary_search_by_key(id, |group| group.group.id) {
                let group = &groups[place];
                role_assignments.extend(group.roles.iter().map(|role| (*role, *id, group)));
            }
        }
    }
    role_assignments.sort_unstable_by_key(|(role, group, _)| (*role, *group));
    role_assignments.dedup_by_key(|(role, ..)| *role);
    let role_assignments = role_assignments.into_iter().filter_map(|(id, _, group)| {
        let place = roles
            .binary_search_by_key(&id, |rules| rules.role.id)
            .ok()?;
        Some((&roles[place], group))
    });
    role_assignments.collect()
}

fn sorted<T: Ord>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
