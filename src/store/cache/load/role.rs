//! Roles: their rows, which change whenever a group gets or loses the role, and separately their rules.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, Iterable, JoinType, QueryFilter, QuerySelect,
    RelationTrait,
};

use super::{CacheRecord, Db, EntryKind};
use crate::{
    domain::{Name, Revision, RoleId, RoleRef, Rule, RuleIndex, SortKey},
    entity::{role, role_rule},
    error::Result,
    store::{page::revision_column, role::RoleAtRevision},
};

/// A role's row.
#[derive(Clone, Debug)]
pub(in crate::store) struct Role {
    read_at: Revision,
    pub(in crate::store) row: Arc<role::Model>,
}

/// A role's name and rules.
#[derive(Clone, Debug)]
pub(in crate::store) struct RoleRules(Arc<RoleRulesRow>);

/// What the cache holds of a role for access decisions.
#[derive(Debug)]
pub(in crate::store) struct RoleRulesRow {
    read_at: Revision,
    pub(in crate::store) role: RoleRef,
    pub(in crate::store) sort: SortKey,
    pub(in crate::store) rules: RuleIndex,
}

impl std::ops::Deref for RoleRules {
    type Target = RoleRulesRow;

    fn deref(&self) -> &RoleRulesRow {
        &self.0
    }
}

impl CacheRecord for Role {
    type Id = RoleId;
    const KIND: EntryKind = EntryKind::Role;

    fn read_at(&self) -> Revision {
        self.read_at
    }

    fn size(&self) -> usize {
        let role::Model {
            name,
            name_sort,
            search_text,
            description,
            ..
        } = &*self.row;
        let texts = [name.as_str(), search_text.as_str(), description.as_str()];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        size_of::<role::Model>() + texts + name_sort.as_bytes().len()
    }

    async fn load(db: &Db, ids: &[RoleId]) -> Result<Vec<(RoleId, Self)>> {
        let select = role::Entity::find()
            .expr_as(revision_column(), "revision")
            .filter(role::Column::Id.is_in(ids.iter().copied()))
            .into_model();
        let rows: Vec<RoleAtRevision> = db.reader.fetch_shared(select).await?;
        let roles = rows.into_iter().map(|RoleAtRevision { role, revision }| {
            let (read_at, row) = (revision, Arc::new(role));
            (row.id, Self { read_at, row })
        });
        Ok(roles.collect())
    }
}

#[derive(FromQueryResult)]
struct RoleAndRule {
    revision: Revision,
    id: RoleId,
    name: Name,
    name_sort: SortKey,
    #[sea_orm(nested)]
    rule: Option<role_rule::Model>,
}

impl CacheRecord for RoleRules {
    type Id = RoleId;
    const KIND: EntryKind = EntryKind::Rules;

    fn read_at(&self) -> Revision {
        self.0.read_at
    }

    fn size(&self) -> usize {
        let RoleRulesRow {
            role, sort, rules, ..
        } = &*self.0;
        size_of::<RoleRulesRow>() + role.name.as_str().len() + sort.as_bytes().len() + rules.size()
    }

    async fn load(db: &Db, ids: &[RoleId]) -> Result<Vec<(RoleId, Self)>> {
        use role::Column as C;
        let select = role::Entity::find()
            .select_only()
            .columns([C::Id, C::Name, C::NameSort])
            .columns(role_rule::Column::iter())
            .expr_as(revision_column(), "revision")
            .join_rev(JoinType::LeftJoin, role_rule::Relation::Role.def())
            .filter(C::Id.is_in(ids.iter().copied()))
            .into_model();
        let rows: Vec<RoleAndRule> = db.reader.fetch_shared(select).await?;
        let mut roles: BTreeMap<RoleId, (Revision, Name, SortKey, Vec<Rule>)> = BTreeMap::new();
        for row in rows {
            let role =
                roles
                    .entry(row.id)
                    .or_insert((row.revision, row.name, row.name_sort, Vec::new()));
            role.3.extend(row.rule.map(Rule::from));
        }
        let roles = roles.into_iter().map(|(id, (read_at, name, sort, rules))| {
            let (role, rules) = (RoleRef { id, name }, RuleIndex::new(rules));
            (
                id,
                Self(Arc::new(RoleRulesRow {
                    read_at,
                    role,
                    sort,
                    rules,
                })),
            )
        });
        Ok(roles.collect())
    }
}
