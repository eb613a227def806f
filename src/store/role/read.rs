//! Reading roles.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ColumnTrait, EntityTrait, JoinType, QueryFilter, QuerySelect, RelationTrait};

use super::{KEYSET, Role, RoleAt, cut_by_rules, missing, rules_of, rules_told, with_rules};
use crate::{
    domain::{
        Cursor, CursorKey, Get, GroupId, ListRoles, ListRolesInGroup, PageRequest, Revision, RoleId,
    },
    entity::{group_role, role, role_rule},
    error::Result,
    store::{
        At, Glance, Page, Read, View, cache,
        page::revision,
        search::{ROLES, found},
    },
};

impl Read for Get<RoleId> {
    type Output = At<Role>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<At<Role>> {
        let id = self.id;
        let found = role::Entity::find_by_id(id).one(view.db()).await?;
        let row = found.ok_or_else(|| missing(id))?;
        let rules = rules_of(view.db(), std::iter::once(id)).await?.remove(&id);
        let value = Role {
            row,
            rules: rules.unwrap_or_default(),
        };
        Ok(At {
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
            select = select.filter(found(view, &ROLES, text, id, query).await?.condition);
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

    const TELLS: bool = true;
    const CACHED: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn recall(&self, glance: &Glance<'_>) -> Result<Option<Page<Role>>> {
        recall(glance, self.group_id, &self.page).await
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<Role>> {
        list_in_group(view, self.group_id, &self.page).await
    }
}

/// Lists the roles of a group, in two statements: the roles, and their rules, each beside the revision.
async fn list_in_group(
    view: &View<'_>,
    group_id: GroupId,
    page: &PageRequest,
) -> Result<Page<Role>> {
    let select = role::Entity::find()
        .expr_as(revision(), "revision")
        .join_rev(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(group_role::Column::GroupId.eq(group_id));
    let rows: Vec<RoleAt> = KEYSET
        .select(select, page)
        .into_model()
        .all(view.db())
        .await?;
    match rows.first() {
        Some(row) => view.saw(row.revision),
        None => {
            view.tear();
            // A group always has a role: only an empty page leaves open whether the group is there.
            crate::store::group::must_exist(view.db(), group_id).await?;
        }
    }
    let models = rows.into_iter().map(|row| row.role).collect();
    let mut page = cut_by_rules(models, page);
    let ids: BTreeSet<_> = page.rows.iter().map(|(row, _)| row.id).collect();
    let mut rules = HashMap::new();
    if !ids.is_empty() {
        rules = rules_told(view, role_rule::Column::RoleId.is_in(ids)).await?;
    }
    page.revision = view.revision();
    Ok(page.map(|row| Role::new(row, &mut rules)))
}

/// Lists the roles of a group from what is in memory.
async fn recall(
    glance: &Glance<'_>,
    group_id: GroupId,
    page: &PageRequest,
) -> Result<Option<Page<Role>>> {
    let Some(group) = glance.one::<cache::Group>(group_id).await? else {
        return Ok(None);
    };
    recall_page(glance, &group.roles, page).await
}

/// Makes a page of these roles from what is in memory.
pub(super) async fn recall_page(
    glance: &Glance<'_>,
    ids: &[RoleId],
    page: &PageRequest,
) -> Result<Option<Page<Role>>> {
    let Some(mut roles) = glance.all::<cache::Role>(ids).await? else {
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
    // One too many tells that the list goes on.
    roles.truncate(usize::from(page.size) + 1);
    let models = roles.iter().map(|role| (*role.row).clone()).collect();
    let mut page = cut_by_rules(models, page);
    let ids: Vec<_> = page.rows.iter().map(|(row, _)| row.id).collect();
    let Some(rules) = glance.all::<cache::RoleRules>(&ids).await? else {
        return Ok(None);
    };
    page.revision = glance.revision();
    let mut rules = rules.iter().map(|rules| rules.rules.to_vec());
    Ok(Some(page.map(|row| Role {
        row,
        rules: rules.next().unwrap_or_default(),
    })))
}
