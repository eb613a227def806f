//! Writing groups.
//!
//! Whatever changes a group's title or roles writes the group's own row, and whatever gives a role to a
//! group or takes it away writes the role's own row: there, two transactions that must not both succeed
//! meet on every engine.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ActiveValue::Unchanged, ColumnTrait, DatabaseTransaction,
    EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationTrait,
};

use super::{Group, find, lock, missing, refs};
use crate::{
    domain::{
        Change, ChangeKind, CreateGroup, DeleteGroup, Folded, GroupId, Name, RoleId, RoleRef,
        Timestamp, UpdateGroup, UserId, Value, Version,
    },
    entity::{group, group_role, group_user, role, user},
    error::{Error, Result},
    store::{
        Write,
        role::{add_group, remove_group},
    },
};

impl Write for CreateGroup {
    type Output = Group;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut Vec<Change>) -> Result<Group> {
        let now = Timestamp::now();
        let row = group::ActiveModel {
            id: Set(GroupId::generate()),
            role_count: Set(count(&self.role_ids)),
            user_count: Set(0),
            version: Set(Version::FIRST),
            created_at: Set(now),
            updated_at: Set(now),
            ..titled(&self.title)
        };
        let group = row.insert(tx).await?;
        let roles = assign(tx, group.id, &self.role_ids).await?;
        let roles = refs(roles);
        let created = Change::of_group(ChangeKind::GroupCreated, group.id, &group.title);
        changes.push(created.to(Value::Name(group.title.clone())));
        changes.extend(roles.iter().map(|role| assigned(&group, role)));
        Ok(Group::new(group, roles))
    }
}

impl Write for UpdateGroup {
    type Output = Group;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut Vec<Change>) -> Result<Group> {
        let group = lock(tx, self.id).await?;
        if !group.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let mut roles = roles_of(tx, group.id).await?;
        let has = |id: &RoleId| roles.iter().any(|role| role.id == *id);
        let add: Vec<_> = self.add.iter().filter(|id| !has(id)).copied().collect();
        let remove: Vec<_> = self.remove.iter().filter(|id| has(id)).copied().collect();
        let title = self.title.as_ref().filter(|title| **title != group.title);
        if add.is_empty() && remove.is_empty() && title.is_none() {
            return Ok(Group::new(group, refs(roles)));
        }

        let mut new = Vec::new();
        if !add.is_empty() {
            new = assign(tx, group.id, &add).await?;
            roles.extend(new.iter().cloned());
        }
        if !remove.is_empty() {
            unassign(tx, group.id, &remove).await?;
        }
        let (gone, roles): (Vec<_>, Vec<_>) = roles
            .into_iter()
            .partition(|role| remove.contains(&role.id));
        let row = group::ActiveModel {
            id: Unchanged(group.id),
            // The CHECK on this column refuses a group without roles.
            role_count: Set(count(&roles)),
            version: Set(group.version.next()),
            updated_at: Set(Timestamp::now()),
            ..title.map(titled).unwrap_or_default()
        };
        let after = row.update(tx).await?;

        if title.is_some() {
            let renamed = Change::of_group(ChangeKind::GroupRenamed, after.id, &after.title);
            let (from, to) = (Value::Name(group.title), Value::Name(after.title.clone()));
            changes.push(renamed.from(from).to(to));
        }
        changes.extend(refs(gone).iter().map(|role| removed(&after, role)));
        changes.extend(refs(new).iter().map(|role| assigned(&after, role)));
        Ok(Group::new(after, refs(roles)))
    }
}

impl Write for DeleteGroup {
    type Output = ();

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut Vec<Change>) -> Result<()> {
        let Some(group) = find(tx, self.id).await? else {
            return if self.allow_missing {
                Ok(())
            } else {
                Err(missing(self.id))
            };
        };
        if !group.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let roles = roles_of(tx, group.id).await?;
        let users = users_of(tx, group.id).await?;
        remove_group(tx, roles.iter().map(|role| role.id)).await?;
        // The associations go with the group: ON DELETE CASCADE.
        group::Entity::delete_by_id(group.id).exec(tx).await?;

        changes.extend(refs(roles).iter().map(|role| removed(&group, role)));
        changes.extend(users.iter().map(|(id, username)| {
            let unassigned = Change::of_group(ChangeKind::UserUnassigned, group.id, &group.title);
            unassigned.with_user(*id, username)
        }));
        let deleted = Change::of_group(ChangeKind::GroupDeleted, group.id, &group.title);
        changes.push(deleted.from(Value::Name(group.title)));
        Ok(())
    }
}

async fn users_of(tx: &DatabaseTransaction, id: GroupId) -> Result<Vec<(UserId, Name)>> {
    let users = user::Entity::find()
        .select_only()
        .columns([user::Column::Id, user::Column::Username])
        .join_rev(JoinType::InnerJoin, group_user::Relation::User.def())
        .filter(group_user::Column::GroupId.eq(id))
        .order_by_asc(user::Column::Id)
        .into_tuple()
        .all(tx)
        .await?;
    Ok(users)
}

async fn roles_of(tx: &DatabaseTransaction, id: GroupId) -> Result<Vec<role::Model>> {
    let roles = role::Entity::find()
        .join_rev(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(group_role::Column::GroupId.eq(id))
        .all(tx)
        .await?;
    Ok(roles)
}

async fn assign(
    tx: &DatabaseTransaction,
    group_id: GroupId,
    ids: &[RoleId],
) -> Result<Vec<role::Model>> {
    let roles = add_group(tx, ids).await?;
    let rows = ids.iter().map(|id| group_role::ActiveModel {
        group_id: Set(group_id),
        role_id: Set(*id),
    });
    group_role::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(roles)
}

async fn unassign(tx: &DatabaseTransaction, group_id: GroupId, ids: &[RoleId]) -> Result<()> {
    remove_group(tx, ids.iter().copied()).await?;
    group_role::Entity::delete_many()
        .filter(group_role::Column::GroupId.eq(group_id))
        .filter(group_role::Column::RoleId.is_in(ids.iter().copied()))
        .exec(tx)
        .await?;
    Ok(())
}

fn assigned(group: &group::Model, role: &RoleRef) -> Change {
    Change::of_group(ChangeKind::RoleAssigned, group.id, &group.title)
        .with_role(role.id, &role.name)
}

fn removed(group: &group::Model, role: &RoleRef) -> Change {
    Change::of_group(ChangeKind::RoleRemoved, group.id, &group.title).with_role(role.id, &role.name)
}

fn titled(title: &Name) -> group::ActiveModel {
    group::ActiveModel {
        title: Set(title.clone()),
        title_key: Set(title.unique_key()),
        title_sort: Set(title.sort_key()),
        search_text: Set(Folded::name(title)),
        ..Default::default()
    }
}

fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}
