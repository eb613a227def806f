//! Roles: their rows, which change whenever a group gets or loses them, and apart from that their rules.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, Iterable, JoinType, QueryFilter, QuerySelect,
    RelationTrait,
};

use super::{Db, Kept, Kind};
use crate::{
    domain::{Name, Revision, RoleId, RoleRef, Rule, Rules, SortKey},
    entity::{role, role_rule},
    error::Result,
    store::{page::revision, role::RoleAt},
};

/// A role's row.
#[derive(Clone, Debug)]
pub(in crate::store) struct Role {
    since: Revision,
    pub(in crate::store) row: Arc<role::Model>,
}

/// A role's name and rules.
#[derive(Clone, Debug)]
pub(in crate::store) struct RoleRules(Arc<NamedRules>);

/// What is kept of a role for decisions.
#[derive(Debug)]
pub(in crate::store) struct NamedRules {
    since: Revision,
    pub(in crate::store) role: RoleRef,
    pub(in crate::store) sort: SortKey,
    pub(in crate::store) rules: Rules,
}

impl std::ops::Deref for RoleRules {
    type Target = NamedRules;

    fn deref(&self) -> &NamedRules {
        &self.0
    }
}

impl Kept for Role {
    type Id = RoleId;
    const KIND: Kind = Kind::Role;

    fn since(&self) -> Revision {
        self.since
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
            .expr_as(revision(), "revision")
            .filter(role::Column::Id.is_in(ids.iter().copied()))
            .into_model();
        let rows: Vec<RoleAt> = db.reader.all(select).await?;
        let roles = rows.into_iter().map(|RoleAt { role, revision }| {
            let (since, row) = (revision, Arc::new(role));
            (row.id, Self { since, row })
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

impl Kept for RoleRules {
    type Id = RoleId;
    const KIND: Kind = Kind::Rules;

    fn since(&self) -> Revision {
        self.0.since
    }

    fn size(&self) -> usize {
        let NamedRules {
            role, sort, rules, ..
        } = &*self.0;
        size_of::<NamedRules>() + role.name.as_str().len() + sort.as_bytes().len() + rules.size()
    }

    async fn load(db: &Db, ids: &[RoleId]) -> Result<Vec<(RoleId, Self)>> {
        use role::Column as C;
        let select = role::Entity::find()
            .select_only()
            .columns([C::Id, C::Name, C::NameSort])
            .columns(role_rule::Column::iter())
            .expr_as(revision(), "revision")
            .join_rev(JoinType::LeftJoin, role_rule::Relation::Role.def())
            .filter(C::Id.is_in(ids.iter().copied()))
            .into_model();
        let rows: Vec<RoleAndRule> = db.reader.all(select).await?;
        let mut roles: BTreeMap<RoleId, (Revision, Name, SortKey, Vec<Rule>)> = BTreeMap::new();
        for row in rows {
            let role =
                roles
                    .entry(row.id)
                    .or_insert((row.revision, row.name, row.name_sort, Vec::new()));
            role.3.extend(row.rule.map(Rule::from));
        }
        let roles = roles.into_iter().map(|(id, (since, name, sort, rules))| {
            let (role, rules) = (RoleRef { id, name }, Rules::new(rules));
            (
                id,
                Self(Arc::new(NamedRules {
                    since,
                    role,
                    sort,
                    rules,
                })),
            )
        });
        Ok(roles.collect())
    }
}
