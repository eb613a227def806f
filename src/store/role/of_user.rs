//! The roles of a user, each with the groups that assign it.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, RelationTrait,
};

use super::{KEYSET, Role, read::read_cached_page, with_rules};
use crate::{
    domain::{
        Cursor, CursorKey, GroupId, GroupRef, ListRolesOfUser, Name, PageRequest, Revision, RoleId,
        UserId,
    },
    entity::{group, group_role, group_user, role},
    error::Result,
    store::{CacheSnapshot, Page, Read, View, cache, page::after_cursor},
};

/// Maximum number of groups in a page, over all of its roles. With the longest titles, and with the most rules and the
/// longest description of the first role, a page with one role stays below 3 MiB.
const MAX_GROUPS: usize = 2500;

/// A role, and the user's groups that assign it.
#[derive(Clone, Debug)]
pub struct RoleOfUser {
    /// The role.
    pub role: Role,
    /// The groups, sorted by title: those that fit into the page.
    pub groups: Vec<GroupRef>,
}

impl Read for ListRolesOfUser {
    type Output = Page<RoleOfUser>;

    const CACHEABLE: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read_cached(&self, snapshot: &CacheSnapshot<'_>) -> Result<Option<Page<RoleOfUser>>> {
        read_cached(snapshot, self.user_id, &self.page).await
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<RoleOfUser>> {
        list(view, self.user_id, &self.page).await
    }
}

/// Lists the roles of a user from the cache.
async fn read_cached(
    snapshot: &CacheSnapshot<'_>,
    user_id: UserId,
    page: &PageRequest,
) -> Result<Option<Page<RoleOfUser>>> {
    let Some(user) = snapshot.get::<cache::User>(user_id).await? else {
        return Ok(None);
    };
    let Some(mut groups) = snapshot.get_all::<cache::Group>(&user.groups).await? else {
        return Ok(None);
    };
    groups.sort_unstable_by(|a, b| (&a.sort, a.group.id).cmp(&(&b.sort, b.group.id)));
    let continued = continued(page);
    // Whether the group wasn't listed under the role on an earlier page.
    let is_left = |group: &cache::Group, role: RoleId| match continued {
        Some((
            of,
            Cursor {
                key: CursorKey::Name(sort),
                id,
                ..
            },
        )) if role.uuid() == of.id => (&group.sort, group.group.id.uuid()) > (sort, *id),
        _ => true,
    };
    let left = groups.iter().flat_map(|group| {
        let roles = group.roles.iter().copied();
        roles.filter(|role| is_left(group, *role))
    });
    let ids: Vec<_> = left.collect::<BTreeSet<_>>().into_iter().collect();
    let Some(page) = read_cached_page(snapshot, &ids, page).await? else {
        return Ok(None);
    };
    let listed = page.rows.iter().map(|(role, _)| (role.row.id, Vec::new()));
    let mut giving: HashMap<_, Vec<&GroupRef>> = listed.collect();
    for group in &groups {
        for role in &group.roles {
            if let Some(giving) = giving.get_mut(role)
                && is_left(group, *role)
            {
                giving.push(&group.group);
            }
        }
    }
    let named = page.rows.iter().flat_map(|(role, _)| {
        let id = role.row.id;
        let groups = giving.get(&id).into_iter().flatten();
        groups.map(move |group| (id, (*group).clone()))
    });
    let named = named.take(MAX_GROUPS + 1).collect();
    Ok(Some(with_groups(page, named)))
}

/// Lists the roles of a user, every role once.
async fn list(view: &View<'_>, user_id: UserId, page: &PageRequest) -> Result<Page<RoleOfUser>> {
    use group_role::Column as C;
    let mut left = Condition::all().add(group_user::Column::UserId.eq(user_id));
    if let Some((of, within)) = continued(page) {
        let further = after_cursor(C::TitleSort, C::GroupId, within, false);
        left = left.add(Condition::any().add(C::RoleId.ne(of.id)).add(further));
    }
    let given = group_role::Entity::find()
        .select_only()
        .column(C::RoleId)
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .filter(left.clone())
        .into_query();
    let select = role::Entity::find().filter(role::Column::Id.in_subquery(given));
    let models = KEYSET.select(select, page).all(view.db()).await?;
    if models.is_empty() {
        crate::store::user::must_exist(view.db(), user_id).await?;
    }
    let page = with_rules(view.db(), models, page).await?;

    let rows: Vec<(RoleId, GroupId, Name)> = group_role::Entity::find()
        .select_only()
        .column(C::RoleId)
        .columns([group::Column::Id, group::Column::Title])
        .join(JoinType::InnerJoin, group_role::Relation::Group.def())
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .join(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(left)
        .filter(C::RoleId.is_in(page.rows.iter().map(|(role, _)| role.row.id)))
        // In the order of the page, so that the limit cuts off groups of the last roles.
        .order_by_asc(role::Column::NameSort)
        .order_by_asc(role::Column::Id)
        .order_by_asc(C::TitleSort)
        .order_by_asc(C::GroupId)
        .limit(MAX_GROUPS as u64 + 1)
        .into_tuple()
        .all(view.db())
        .await?;
    let named = rows.into_iter();
    let named = named.map(|(role, id, title)| (role, GroupRef { id, title }));
    Ok(Page {
        revision: view.revision(),
        ..with_groups(page, named.collect())
    })
}

/// The role that the page continues, and the last of its groups that was listed before.
fn continued(page: &PageRequest) -> Option<(&Cursor, &Cursor)> {
    let of = page.after.as_ref()?;
    Some((of, of.within.as_deref()?))
}

/// Attaches groups to the roles of a page. `named` is in the order of the page, with one group beyond the limit if
/// there are more. If that extra group belongs to the first role, the page ends inside that role; otherwise it ends
/// before the role that the group belongs to.
fn with_groups(mut page: Page<Role>, mut named: Vec<(RoleId, GroupRef)>) -> Page<RoleOfUser> {
    if named.len() > MAX_GROUPS
        && let Some((cut, _)) = named.pop()
    {
        let whole = page.rows.iter().position(|(role, _)| role.row.id == cut);
        let whole = whole.unwrap_or_default();
        page.more = true;
        page.rows.truncate(whole.max(1));
        if whole == 0
            && let Some((_, cursor)) = page.rows.first_mut()
        {
            cursor.within = named.last().map(|(_, last)| {
                Box::new(Cursor {
                    key: CursorKey::Name(last.title.sort_key()),
                    id: last.id.uuid(),
                    within: None,
                })
            });
        }
    }
    let mut named = named.into_iter().peekable();
    page.map(|role| {
        let of_role = || named.next_if(|(id, _)| *id == role.row.id);
        let groups = std::iter::from_fn(of_role)
            .map(|(_, group)| group)
            .collect();
        RoleOfUser { role, groups }
    })
}
