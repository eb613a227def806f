//! Reading roles.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    RelationTrait,
};

use super::{KEYSET, Role, RoleAt, cut_by_rules, missing, rules_of, rules_told, with_rules};
use crate::{
    domain::{
        Cursor, CursorKey, Get, GroupId, GroupRef, ListRoles, ListRolesInGroup, ListRolesOfUser,
        Name, PageRequest, Revision, RoleId, UserId,
    },
    entity::{group, group_role, group_user, role, role_rule},
    error::Result,
    store::{
        At, Glance, Page, Read, View, cache,
        page::revision,
        search::{ROLES, found},
    },
};

/// A role, and the groups of a user that give it.
#[derive(Clone, Debug)]
pub struct RoleOfUser {
    /// The role.
    pub role: Role,
    /// The groups, by title.
    pub groups: Vec<GroupRef>,
}

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
async fn recall_page(
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
    }) = &page.after
    {
        roles.retain(|role| (&role.row.name_sort, role.row.id.uuid()) > (sort, *id));
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

impl Read for ListRolesOfUser {
    type Output = Page<RoleOfUser>;

    const CACHED: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn recall(&self, glance: &Glance<'_>) -> Result<Option<Page<RoleOfUser>>> {
        recall_of_user(glance, self.user_id, &self.page).await
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<RoleOfUser>> {
        list_of_user(view, self.user_id, &self.page).await
    }
}

/// Lists the roles of a user from what is in memory.
async fn recall_of_user(
    glance: &Glance<'_>,
    user_id: UserId,
    page: &PageRequest,
) -> Result<Option<Page<RoleOfUser>>> {
    let Some(user) = glance.one::<cache::User>(user_id).await? else {
        return Ok(None);
    };
    let Some(mut groups) = glance.all::<cache::Group>(&user.groups).await? else {
        return Ok(None);
    };
    let ids: BTreeSet<_> = groups.iter().flat_map(|group| &group.roles).collect();
    let ids: Vec<_> = ids.into_iter().copied().collect();
    let Some(page) = recall_page(glance, &ids, page).await? else {
        return Ok(None);
    };
    groups.sort_unstable_by(|a, b| (&a.sort, a.group.id).cmp(&(&b.sort, b.group.id)));
    let listed = page.rows.iter().map(|(role, _)| (role.row.id, Vec::new()));
    let mut giving: HashMap<_, Vec<GroupRef>> = listed.collect();
    for group in &groups {
        for role in &group.roles {
            if let Some(giving) = giving.get_mut(role) {
                giving.push(group.group.clone());
            }
        }
    }
    Ok(Some(page.map(|role| RoleOfUser {
        groups: giving.remove(&role.row.id).unwrap_or_default(),
        role,
    })))
}

/// Lists the roles of a user, every role once.
async fn list_of_user(
    view: &View<'_>,
    user_id: UserId,
    page: &PageRequest,
) -> Result<Page<RoleOfUser>> {
    let given = group_role::Entity::find()
        .select_only()
        .column(group_role::Column::RoleId)
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .filter(group_user::Column::UserId.eq(user_id))
        .into_query();
    let select = role::Entity::find().filter(role::Column::Id.in_subquery(given));
    let models = KEYSET.select(select, page).all(view.db()).await?;
    if models.is_empty() {
        crate::store::user::must_exist(view.db(), user_id).await?;
    }
    let page = with_rules(view.db(), models, page).await?;

    let rows: Vec<(RoleId, GroupId, Name)> = group_role::Entity::find()
        .select_only()
        .column(group_role::Column::RoleId)
        .columns([group::Column::Id, group::Column::Title])
        .join(JoinType::InnerJoin, group_role::Relation::Group.def())
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .filter(group_user::Column::UserId.eq(user_id))
        .filter(group_role::Column::RoleId.is_in(page.rows.iter().map(|(role, _)| role.row.id)))
        .order_by_asc(group::Column::TitleSort)
        .order_by_asc(group::Column::Id)
        .into_tuple()
        .all(view.db())
        .await?;
    let mut groups: HashMap<_, Vec<_>> = HashMap::new();
    for (role, id, title) in rows {
        groups.entry(role).or_default().push(GroupRef { id, title });
    }
    let page = page.map(|role| RoleOfUser {
        groups: groups.remove(&role.row.id).unwrap_or_default(),
        role,
    });
    Ok(Page {
        revision: view.revision(),
        ..page
    })
}
