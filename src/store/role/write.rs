//! Writing roles.

use std::{cmp::max, collections::BTreeSet};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, JoinType, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait,
    sea_query::{Expr, ExprTrait},
};

use super::{Role, missing, rules_of};
use crate::{
    domain::{
        Change, ChangeKind, ChangeLog, CreateRole, DeleteRole, DeletedResource,
        DeletedResourceDetails, GroupId, Name, RoleId, Rule, SearchText, UpdateRole, Value,
        Version,
    },
    entity::{group, group_role, role, role_rule},
    error::{Error, Result},
    store::{
        Write,
        statements::{insert, update},
    },
};

/// Number of groups that are listed when a role can't be deleted because groups have it.
const NAMED_GROUPS: u64 = 10;

impl Write for CreateRole {
    type Output = Role;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<Role> {
        let now = changes.time();
        let mut row = role::ActiveModel {
            id: Set(RoleId::generate()),
            description: Set(self.description.clone()),
            group_count: Set(0),
            rule_count: Set(count(&self.rules)),
            version: Set(Version::FIRST),
            created_at: Set(now),
            updated_at: Set(now),
            ..Default::default()
        };
        set_name(&mut row, &self.name);
        let role = insert(tx, row).await?;
        let rules: BTreeSet<_> = self.rules.iter().cloned().collect();
        add_rules(tx, role.id, &rules).await?;

        let for_role = |kind| Change::for_role(kind, role.id, &role.name);
        changes.push(for_role(ChangeKind::RoleCreated).with_after(Value::Name(role.name.clone())));
        if !self.description.is_empty() {
            let description = Value::Description(role.description.clone());
            changes.push(for_role(ChangeKind::RoleDescribed).with_after(description));
        }
        changes.extend(rules.iter().map(|rule| added(&role, rule)));
        Ok(Role {
            row: role,
            rules: rules.into_iter().collect(),
        })
    }
}

impl Write for UpdateRole {
    type Output = Role;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<Role> {
        let before = find(tx, self.id).await?.ok_or_else(|| missing(self.id))?;
        if !before.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let rules = rules_of(tx, std::iter::once(self.id))
            .await?
            .remove(&self.id);
        let mut rules: BTreeSet<_> = rules.unwrap_or_default().into_iter().collect();
        let add: BTreeSet<_> = self
            .add
            .iter()
            .filter(|rule| !rules.contains(rule))
            .cloned()
            .collect();
        let remove: BTreeSet<_> = self
            .remove
            .iter()
            .filter(|rule| rules.contains(rule))
            .cloned()
            .collect();
        let name = self.name.as_ref().filter(|name| **name != before.name);
        let description = self
            .description
            .as_ref()
            .filter(|description| **description != before.description);
        if name.is_none() && description.is_none() && add.is_empty() && remove.is_empty() {
            return Ok(Role {
                row: before,
                rules: rules.into_iter().collect(),
            });
        }

        rules.extend(add.iter().cloned());
        rules.retain(|rule| !remove.contains(rule));
        changes.advance_to(max(before.created_at, before.updated_at));
        let mut row = before.clone().into_active_model();
        if let Some(name) = name {
            set_name(&mut row, name);
        }
        if let Some(description) = description {
            row.description = Set(description.clone());
        }
        // The CHECK on this column enforces the limit.
        row.rule_count = Set(count(&rules));
        row.version = Set(before.version.next());
        row.updated_at = Set(changes.time());
        let after = update(tx, row, role::Column::Id.eq(before.id)).await?;
        remove_rules(tx, after.id, &remove).await?;
        add_rules(tx, after.id, &add).await?;

        let for_role = |kind| Change::for_role(kind, after.id, &after.name);
        if name.is_some() {
            let (before, after) = (Value::Name(before.name), Value::Name(after.name.clone()));
            changes.push(
                for_role(ChangeKind::RoleRenamed)
                    .with_before(before)
                    .with_after(after),
            );
        }
        if description.is_some() {
            let before = Value::Description(before.description);
            let after = Value::Description(after.description.clone());
            changes.push(
                for_role(ChangeKind::RoleDescribed)
                    .with_before(before)
                    .with_after(after),
            );
        }
        changes.extend(remove.iter().map(|rule| removed(&after, rule)));
        changes.extend(add.iter().map(|rule| added(&after, rule)));
        Ok(Role {
            row: after,
            rules: rules.into_iter().collect(),
        })
    }
}

impl Write for DeleteRole {
    type Output = ();

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<()> {
        let Some(role) = find(tx, self.id).await? else {
            return if self.allow_missing {
                Ok(())
            } else {
                Err(missing(self.id))
            };
        };
        if !role.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        if role.group_count > 0 {
            return Err(Error::RoleInUse {
                role: role.id,
                group_count: role.group_count,
                groups: first_groups(tx, role.id).await?,
            });
        }
        changes.advance_to(max(role.created_at, role.updated_at));
        let rules = rules_of(tx, std::iter::once(role.id))
            .await?
            .remove(&role.id);
        // The rules are deleted with the role: ON DELETE CASCADE.
        role::Entity::delete_by_id(role.id).exec(tx).await?;

        changes.extend(rules.iter().flatten().map(|rule| removed(&role, rule)));
        let deleted = Change::for_role(ChangeKind::RoleDeleted, role.id, &role.name);
        let deleted = deleted.with_deleted(DeletedResource {
            created_at: role.created_at,
            updated_at: role.updated_at,
            version: role.version,
            details: DeletedResourceDetails::Role {
                description: role.description,
            },
        });
        changes.push(deleted.with_before(Value::Name(role.name)));
        Ok(())
    }
}

async fn find(tx: &DatabaseTransaction, id: RoleId) -> Result<Option<role::Model>> {
    Ok(role::Entity::find_by_id(id).one(tx).await?)
}

async fn add_rules(tx: &DatabaseTransaction, id: RoleId, rules: &BTreeSet<Rule>) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let rows = rules.iter().cloned().map(|rule| role_rule::ActiveModel {
        role_id: Set(id),
        bundle: Set(rule.bundle),
        controller: Set(rule.controller),
        action: Set(rule.action),
        effect: Set(rule.effect),
    });
    role_rule::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn remove_rules(tx: &DatabaseTransaction, id: RoleId, rules: &BTreeSet<Rule>) -> Result<()> {
    use role_rule::Column as C;
    if rules.is_empty() {
        return Ok(());
    }
    // Row values: a thousand conditions joined by OR would be too deep an expression for SQLite.
    let columns = [C::Bundle, C::Controller, C::Action, C::Effect].map(Expr::col);
    let wanted = rules
        .iter()
        .cloned()
        .map(|rule| (rule.bundle, rule.controller, rule.action, rule.effect));
    role_rule::Entity::delete_many()
        .filter(C::RoleId.eq(id))
        .filter(Expr::tuple(columns).in_tuples(wanted))
        .exec(tx)
        .await?;
    Ok(())
}

async fn first_groups(tx: &DatabaseTransaction, id: RoleId) -> Result<Vec<(GroupId, Name)>> {
    let groups = group::Entity::find()
        .select_only()
        .columns([group::Column::Id, group::Column::Title])
        .join_rev(JoinType::InnerJoin, group_role::Relation::Group.def())
        .filter(group_role::Column::RoleId.eq(id))
        .order_by_asc(group_role::Column::TitleSort)
        .order_by_asc(group_role::Column::GroupId)
        .limit(NAMED_GROUPS)
        .into_tuple()
        .all(tx)
        .await?;
    Ok(groups)
}

fn set_name(row: &mut role::ActiveModel, name: &Name) {
    row.name = Set(name.clone());
    row.name_key = Set(name.unique_key());
    row.name_sort = Set(name.sort_key());
    row.search_text = Set(SearchText::name(name));
}

fn added(role: &role::Model, rule: &Rule) -> Change {
    Change::for_role(ChangeKind::RuleAdded, role.id, &role.name)
        .with_after(Value::Rule(rule.clone()))
}

fn removed(role: &role::Model, rule: &Rule) -> Change {
    Change::for_role(ChangeKind::RuleRemoved, role.id, &role.name)
        .with_before(Value::Rule(rule.clone()))
}

fn count<T>(items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) -> i64 {
    i64::try_from(items.into_iter().len()).unwrap_or(i64::MAX)
}
