//! Reading roles.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ColumnTrait, EntityTrait, JoinType, QueryFilter, QuerySelect, RelationTrait};

use super::{
    KEYSET, Role, RoleAtRevision, missing, paginate_with_rule_limit, rules_of, rules_with_revision,
    with_rules,
};
use crate::{
    domain::{
        Cursor, CursorKey, Get, GroupId, ListRoles, ListRolesInGroup, PageRequest, Revision, RoleId,
    },
    entity::{group_role, role, role_rule},
    error::Result,
    store::{
        AtRevision, CacheSnapshot, Page, Read, View, cache,
        page::revision_column,
        search::{ROLES, search_filter},
    },
};

impl Read for Get<RoleId> {
    type Output = AtRevision<Role>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<AtRevision<Role>> {
        let id = self.id;
        let found = role::Entity::find_by_id(id).one(view.db()).await?;
        let row = found.ok_or_else(|| missing(id))?;
        let rules = rules_of(view.db(), std::iter::once(id)).await?.remove(&id);
        let value = Role {
            row,
            rules: rules.unwrap_or_default(),
        };
        Ok(AtRevision {
            value,
            revision: view.revision(),
        })
    }
}

impl Read for ListRoles {
    type Output = Page<Role>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    fn searches(&self) -> bool {
        self.query.is_some()
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<Role>> {
        let mut select = role::Entity::find();
        if let Some(query) = &self.query {
            let (text, id) = (role::Column::SearchText, role::Column::Id);
            select = select.filter(
                search_filter(view, &ROLES, text, id, query)
                    .await?
                    .condition,
            );
        }
        let models = KEYSET.select(select, &self.page).all(view.db()).await?;
        let page = with_rules(view.db(), models, &self.page).await?;
        Ok(Page {
            revision: view.revision(),
            ..page
        })
    }
}

impl Read for ListRolesInGroup {
    type Output = Page<Role>;

    const REPORTS_REVISION: bool = true;
    const CACHEABLE: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read_cached(&self, snapshot: &CacheSnapshot<'_>) -> Result<Option<Page<Role>>> {
        read_cached(snapshot, self.group_id, &self.page).await
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<Role>> {
        list_in_group(view, self.group_id, &self.page).await
    }
}

/// Lists the roles of a group in two statements, for the roles and for their rules, each of which reports its revision.
async fn list_in_group(
    view: &View<'_>,
    group_id: GroupId,
    page: &PageRequest,
) -> Result<Page<Role>> {
    let select = role::Entity::find()
        .expr_as(revision_column(), "revision")
        .join_rev(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(group_role::Column::GroupId.eq(group_id));
    let rows: Vec<RoleAtRevision> = KEYSET
        .select(select, page)
        .into_model()
        .all(view.db())
        .await?;
    match rows.first() {
        Some(row) => view.observe_revision(row.revision),
        None => {
            view.mark_inconsistent();
            // A group always has a role: only an empty page leaves open whether the group exists.
            crate::store::group::must_exist(view.db(), group_id).await?;
        }
    }
    let models = rows.into_iter().map(|row| row.role).collect();
    let mut page = paginate_with_rule_limit(models, page);
    let ids: BTreeSet<_> = page.rows.iter().map(|(row, _)| row.id).collect();
    let mut rules = HashMap::new();
    if !ids.is_empty() {
        rules = rules_with_revision(view, role_rule::Column::RoleId.is_in(ids)).await?;
    }
    page.revision = view.revision();
    Ok(page.map(|row| Role::new(row, &mut rules)))
}

/// Lists the roles of a group from the cache.
async fn read_cached(
    snapshot: &CacheSnapshot<'_>,
    group_id: GroupId,
    page: &PageRequest,
) -> Result<Option<Page<Role>>> {
    let Some(group) = snapshot.get::<cache::Group>(group_id).await? else {
        return Ok(None);
    };
    read_cached_page(snapshot, &group.roles, page).await
}

/// Builds a page of these roles from the cache.
pub(super) async fn read_cached_page(
    snapshot: &CacheSnapshot<'_>,
    ids: &[RoleId],
    page: &PageRequest,
) -> Result<Option<Page<Role>>> {
    let Some(mut roles) = snapshot.get_all::<cache::Role>(ids).await? else {
        return Ok(None);
    };
    if let Some(Cursor {
        key: CursorKey::Name(sort),
        id,
        within,
    }) = &page.after
    {
        let begins = |role: &cache::Role| {
            let place = (&role.row.name_sort, role.row.id.uuid());
            place > (sort, *id) || (within.is_some() && place == (sort, *id))
        };
        roles.retain(begins);
    }
    roles.sort_unstable_by(|a, b| (&a.row.name_sort, a.row.id).cmp(&(&b.row.name_sort, b.row.id)));
    // One row beyond the page shows that the list continues.
    roles.truncate(usize::from(page.size) + 1);
    let models = roles.iter().map(|role| (*role.row).clone()).collect();
    let mut page = paginate_with_rule_limit(models, page);
    let ids: Vec<_> = page.rows.iter().map(|(row, _)| row.id).collect();
    let Some(rules) = snapshot.get_all::<cache::RoleRules>(&ids).await? else {
        return Ok(None);
    };
    page.revision = snapshot.revision();
    let mut rules = rules.iter().map(|rules| rules.rules.to_vec());
    Ok(Some(page.map(|row| Role {
        row,
        rules: rules.next().unwrap_or_default(),
    })))
}
