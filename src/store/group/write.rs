//! Writing groups.

use std::cmp::max;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, JoinType, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationTrait,
    sea_query::Expr,
};

use super::{Group, find, missing, role_refs};
use crate::{
    domain::{
        Change, ChangeKind, ChangeLog, CreateGroup, DeleteGroup, DeletedResource,
        DeletedResourceDetails, FieldViolation, GroupId, Name, RoleId, RoleRef, SearchText,
        UpdateGroup, UserId, Value, Version,
    },
    entity::{group, group_role, group_user, role, user},
    error::{Error, Result},
    store::{
        Write,
        engine::{
            add_to_group_count, add_to_role_group_counts, execute_all, insert_group_and_count,
        },
        role::{delete_group_roles, insert_group_roles, require_roles},
        statements::{insert_statement, update_statement},
    },
};

/// Maximum number of roles of a group, so that every response with its roles stays well below 4 MiB.
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
        set_title(&mut row, &self.title);
        let (group, insert) = insert_statement(row)?;
        let roles = match require_roles(tx, &self.role_ids).await {
            Ok(roles) => roles,
            // A taken title takes precedence over missing roles, so the insert runs for its unique constraint. After
            // any other error the transaction may no longer exist.
            Err(absent @ Error::NotFound(_)) => {
                tx.execute(&insert).await?;
                return Err(absent);
            }
            Err(error) => return Err(error),
        };
        let ids = roles.iter().map(|role| role.id);
        insert_group_and_count(
            tx,
            vec![insert.into(), insert_group_roles(&group, &roles)],
            ids,
        )
        .await?;
        let roles = role_refs(roles);
        let created = Change::for_group(ChangeKind::GroupCreated, group.id, &group.title);
        changes.push(created.with_after(Value::Name(group.title.clone())));
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
            return Ok(Group::new(group, role_refs(roles)));
        }

        let mut new = Vec::new();
        let mut writes = Vec::new();
        if !add.is_empty() {
            new = require_roles(tx, &add).await?;
            writes.extend([
                insert_group_roles(&group, &new),
                add_to_role_group_counts(add.iter().copied(), 1),
            ]);
            roles.extend(new.iter().cloned());
        }
        if !remove.is_empty() {
            let ids = remove.iter().copied();
            writes.extend([
                delete_group_roles(group.id, &remove),
                add_to_role_group_counts(ids, -1),
            ]);
        }
        let (gone, roles): (Vec<_>, Vec<_>) = roles
            .into_iter()
            .partition(|role| remove.contains(&role.id));
        if !add.is_empty() && roles.len() > MAX_ROLES {
            return Err(too_many_roles());
        }
        changes.advance_to(max(group.created_at, group.updated_at));
        let mut row = group.clone().into_active_model();
        if let Some(title) = title {
            set_title(&mut row, title);
        }
        // The CHECK on this column rejects a group without roles.
        row.role_count = Set(count(&roles));
        row.version = Set(group.version.next());
        row.updated_at = Set(changes.time());
        let (after, update) = update_statement(row, group::Column::Id.eq(group.id))?;
        writes.push(update.into());
        execute_all(tx, writes).await?;
        if after.title_sort != group.title_sort {
            update_sort_keys(tx, &after).await?;
        }

        if title.is_some() {
            let renamed = Change::for_group(ChangeKind::GroupRenamed, after.id, &after.title);
            let (from, to) = (Value::Name(group.title), Value::Name(after.title.clone()));
            changes.push(renamed.with_before(from).with_after(to));
        }
        changes.extend(role_refs(gone).iter().map(|role| removed(&after, role)));
        changes.extend(role_refs(new).iter().map(|role| assigned(&after, role)));
        Ok(Group::new(after, role_refs(roles)))
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
        changes.advance_to(max(group.created_at, group.updated_at));
        let roles = roles_of(tx, group.id).await?;
        let users = users_of(tx, group.id).await?;
        // The group's roles and members are deleted with it: ON DELETE CASCADE.
        let delete = group::Entity::delete_many().filter(group::Column::Id.eq(group.id));
        let writes = vec![
            add_to_role_group_counts(roles.iter().map(|role| role.id), -1),
            delete.into_query().into(),
            add_to_group_count(-1),
        ];
        execute_all(tx, writes).await?;

        changes.extend(role_refs(roles).iter().map(|role| removed(&group, role)));
        changes.extend(users.iter().map(|(id, username)| {
            let unassigned = Change::for_group(ChangeKind::UserUnassigned, group.id, &group.title);
            unassigned.with_user(*id, username)
        }));
        let deleted = Change::for_group(ChangeKind::GroupDeleted, group.id, &group.title);
        let deleted = deleted.with_deleted(DeletedResource {
            created_at: group.created_at,
            updated_at: group.updated_at,
            version: group.version,
            details: DeletedResourceDetails::Group,
        });
        changes.push(deleted.with_before(Value::Name(group.title)));
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

/// Updates the copies of the group's sort key in its role assignments and memberships.
async fn update_sort_keys(tx: &DatabaseTransaction, group: &group::Model) -> Result<()> {
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
    Change::for_group(ChangeKind::RoleAssigned, group.id, &group.title)
        .with_role(role.id, &role.name)
}

fn removed(group: &group::Model, role: &RoleRef) -> Change {
    Change::for_group(ChangeKind::RoleRemoved, group.id, &group.title)
        .with_role(role.id, &role.name)
}

fn set_title(row: &mut group::ActiveModel, title: &Name) {
    row.title = Set(title.clone());
    row.title_key = Set(title.unique_key());
    row.title_sort = Set(title.sort_key());
    row.search_text = Set(SearchText::name(title));
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
