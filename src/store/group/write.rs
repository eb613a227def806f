//! Writing groups.
//!
//! Whatever changes a group's title or roles writes the group's own row, and whatever gives a role to a
//! group or takes it away writes the role's own row: there, two transactions that must not both succeed
//! meet on every engine.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ActiveValue::Unchanged, ColumnTrait, DatabaseTransaction,
    EntityTrait, JoinType, QueryFilter, QuerySelect, QueryTrait, RelationTrait,
};

use super::{Group, find, lock, missing, refs};
use crate::{
    domain::{
        CreateGroup, DeleteGroup, Folded, GroupId, Name, RoleId, Timestamp, UpdateGroup, Version,
    },
    entity::{group, group_role, role},
    error::{Error, Result},
    store::{
        Write,
        role::{add_group, remove_group},
    },
};

impl Write for CreateGroup {
    type Output = Group;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<Group> {
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
        Ok(Group::new(group, refs(roles)))
    }
}

impl Write for UpdateGroup {
    type Output = Group;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<Group> {
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

        if !add.is_empty() {
            roles.extend(assign(tx, group.id, &add).await?);
        }
        if !remove.is_empty() {
            unassign(tx, group.id, &remove).await?;
            roles.retain(|role| !remove.contains(&role.id));
        }
        let row = group::ActiveModel {
            id: Unchanged(group.id),
            // The CHECK on this column refuses a group without roles.
            role_count: Set(count(&roles)),
            version: Set(group.version.next()),
            updated_at: Set(Timestamp::now()),
            ..title.map(titled).unwrap_or_default()
        };
        Ok(Group::new(row.update(tx).await?, refs(roles)))
    }
}

impl Write for DeleteGroup {
    type Output = ();

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<()> {
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
        let roles = group_role::Entity::find()
            .select_only()
            .column(group_role::Column::RoleId)
            .filter(group_role::Column::GroupId.eq(group.id))
            .into_query();
        remove_group(tx, role::Column::Id.in_subquery(roles)).await?;
        // The associations go with the group: ON DELETE CASCADE.
        group::Entity::delete_by_id(group.id).exec(tx).await?;
        Ok(())
    }
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
    remove_group(tx, role::Column::Id.is_in(ids.iter().copied())).await?;
    group_role::Entity::delete_many()
        .filter(group_role::Column::GroupId.eq(group_id))
        .filter(group_role::Column::RoleId.is_in(ids.iter().copied()))
        .exec(tx)
        .await?;
    Ok(())
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
