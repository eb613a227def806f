//! Writing groups.

use std::cmp::max;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, JoinType, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationTrait,
    sea_query::Expr,
};

use super::{Group, find, missing, refs};
use crate::{
    domain::{
        Change, ChangeKind, ChangeLog, CreateGroup, DeleteGroup, Deleted, DeletedDetails,
        FieldViolation, Folded, GroupId, Name, RoleId, RoleRef, UpdateGroup, UserId, Value,
        Version,
    },
    entity::{group, group_role, group_user, role, user},
    error::{Error, Result},
    store::{
        Write,
        engine::{add_new_group, count_groups, count_in_roles, together},
        role::{existing, give, take},
        row::{inserting, updating},
    },
};

/// A group has at most as many roles, so that every answer with its roles stays well below 4 MiB.
const MAX_ROLES: usize = 1000;

impl Write for CreateGroup {
    type Output = Group;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<Group> {
        let now = changes.time();
        let mut row = group::ActiveModel {
            id: Set(GroupId::generate()),
            role_count: Set(count(&self.role_ids)),
            user_count: Set(0),
            version: Set(Version::FIRST),
            created_at: Set(now),
            updated_at: Set(now),
            ..Default::default()
        };
        retitle(&mut row, &self.title);
        let (group, insert) = inserting(row)?;
        let roles = match existing(tx, &self.role_ids).await {
            Ok(roles) => roles,
            // That the title is taken is told first. Behind any other error there may be no transaction any more.
            Err(absent @ Error::NotFound(_)) => {
                tx.execute(&insert).await?;
                return Err(absent);
            }
            Err(error) => return Err(error),
        };
        let ids = roles.iter().map(|role| role.id);
        add_new_group(tx, vec![insert.into(), give(&group, &roles)], ids).await?;
        let roles = refs(roles);
        let created = Change::of_group(ChangeKind::GroupCreated, group.id, &group.title);
        changes.push(created.to(Value::Name(group.title.clone())));
        changes.extend(roles.iter().map(|role| assigned(&group, role)));
        Ok(Group::new(group, roles))
    }
}

impl Write for UpdateGroup {
    type Output = Group;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<Group> {
        let group = find(tx, self.id).await?.ok_or_else(|| missing(self.id))?;
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
        let mut writes = Vec::new();
        if !add.is_empty() {
            new = existing(tx, &add).await?;
            writes.extend([give(&group, &new), count_in_roles(add.iter().copied(), 1)]);
            roles.extend(new.iter().cloned());
        }
        if !remove.is_empty() {
            let ids = remove.iter().copied();
            writes.extend([take(group.id, &remove), count_in_roles(ids, -1)]);
        }
        let (gone, roles): (Vec<_>, Vec<_>) = roles
            .into_iter()
            .partition(|role| remove.contains(&role.id));
        if !add.is_empty() && roles.len() > MAX_ROLES {
            return Err(too_many_roles());
        }
        changes.not_before(max(group.created_at, group.updated_at));
        let mut row = group.clone().into_active_model();
        if let Some(title) = title {
            retitle(&mut row, title);
        }
        // The CHECK on this column refuses a group without roles.
        row.role_count = Set(count(&roles));
        row.version = Set(group.version.next());
        row.updated_at = Set(changes.time());
        let (after, update) = updating(row, group::Column::Id.eq(group.id))?;
        writes.push(update.into());
        together(tx, writes).await?;
        if after.title_sort != group.title_sort {
            resort(tx, &after).await?;
        }

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

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<()> {
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
        changes.not_before(max(group.created_at, group.updated_at));
        let roles = roles_of(tx, group.id).await?;
        let users = users_of(tx, group.id).await?;
        // The associations go with the group: ON DELETE CASCADE.
        let delete = group::Entity::delete_many().filter(group::Column::Id.eq(group.id));
        let writes = vec![
            count_in_roles(roles.iter().map(|role| role.id), -1),
            delete.into_query().into(),
            count_groups(-1),
        ];
        together(tx, writes).await?;

        changes.extend(refs(roles).iter().map(|role| removed(&group, role)));
        changes.extend(users.iter().map(|(id, username)| {
            let unassigned = Change::of_group(ChangeKind::UserUnassigned, group.id, &group.title);
            unassigned.with_user(*id, username)
        }));
        let deleted = Change::of_group(ChangeKind::GroupDeleted, group.id, &group.title);
        let deleted = deleted.with_deleted(Deleted {
            created_at: group.created_at,
            updated_at: group.updated_at,
            version: group.version,
            details: DeletedDetails::Group,
        });
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

/// Writes the group's sort key beside who is in it, and beside its roles.
async fn resort(tx: &DatabaseTransaction, group: &group::Model) -> Result<()> {
    group_role::Entity::update_many()
        .col_expr(
            group_role::Column::TitleSort,
            Expr::val(group.title_sort.clone()),
        )
        .filter(group_role::Column::GroupId.eq(group.id))
        .exec(tx)
        .await?;
    group_user::Entity::update_many()
        .col_expr(
            group_user::Column::TitleSort,
            Expr::val(group.title_sort.clone()),
        )
        .filter(group_user::Column::GroupId.eq(group.id))
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

fn retitle(row: &mut group::ActiveModel, title: &Name) {
    row.title = Set(title.clone());
    row.title_key = Set(title.unique_key());
    row.title_sort = Set(title.sort_key());
    row.search_text = Set(Folded::name(title));
}

fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}

fn too_many_roles() -> Error {
    Error::Invalid(vec![FieldViolation {
        field: "add_role_ids".to_owned(),
        description: "must not bring the group to more than 1000 roles".to_owned(),
    }])
}
