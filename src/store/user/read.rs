//! Reading users.

use sea_orm::{
    ColumnTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QuerySelect, RelationTrait,
};

use super::{KEYSET, cursor, missing};
use crate::{
    domain::{Get, ListUsers, ListUsersInGroup, Revision, UserId},
    entity::{group_user, user},
    error::Result,
    store::{
        AtRevision, Page, Read, View, group,
        page::{Keyset, paginate},
        search::{USERS, contains, search_filter},
    },
};

/// Keyset of a group's users. `group_users` has an index in this order, so a page is one index range however many users
/// the group has.
const KEYSET_IN_GROUP: Keyset<group_user::Column> = Keyset {
    name: group_user::Column::UsernameSort,
    created_at: group_user::Column::GroupCreatedAt,
    id: group_user::Column::UserId,
};

/// Up to this many users of a group are searched row by row: faster than a lookup in the search index of all users.
const SEARCH_INDEX_THRESHOLD: u64 = 50;

impl Read for Get<UserId> {
    type Output = AtRevision<user::Model>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<AtRevision<user::Model>> {
        let found = user::Entity::find_by_id(self.id).one(view.db()).await?;
        Ok(AtRevision {
            value: found.ok_or_else(|| missing(self.id))?,
            revision: view.revision(),
        })
    }
}

impl Read for ListUsers {
    type Output = Page<user::Model>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    fn searches(&self) -> bool {
        self.query.is_some()
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<user::Model>> {
        list(view, self).await
    }
}

async fn list(view: &View<'_>, list: &ListUsers) -> Result<Page<user::Model>> {
    let ListUsers {
        page,
        query,
        status,
        min_revision: _,
    } = list;
    let mut select = user::Entity::find();
    if let Some(query) = query {
        let (text, id) = (user::Column::SearchText, user::Column::Id);
        select = select.filter(
            search_filter(view, &USERS, text, id, query)
                .await?
                .condition,
        );
    }
    if let Some(status) = status {
        select = select.filter(user::Column::Status.eq(*status));
    }
    let models = KEYSET.select(select, page).all(view.db()).await?;
    Ok(Page {
        revision: view.revision(),
        ..paginate(models, page, cursor)
    })
}

impl Read for ListUsersInGroup {
    type Output = Page<user::Model>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    fn searches(&self) -> bool {
        self.query.is_some()
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<user::Model>> {
        list_in_group(view, self).await
    }
}

async fn list_in_group(view: &View<'_>, list: &ListUsersInGroup) -> Result<Page<user::Model>> {
    let ListUsersInGroup {
        group_id,
        page,
        query,
        with_total_size,
        min_revision: _,
    } = list;
    let mut select = user::Entity::find()
        .join_rev(JoinType::InnerJoin, group_user::Relation::User.def())
        .filter(group_user::Column::GroupId.eq(*group_id));
    let mut by_user = false;
    if let Some(query) = query {
        let (text, id) = (user::Column::SearchText, group_user::Column::UserId);
        if group::user_count(view.db(), *group_id).await? > SEARCH_INDEX_THRESHOLD {
            let found = search_filter(view, &USERS, text, id, query).await?;
            by_user = found.is_selective;
            select = select.filter(found.condition);
        } else {
            select = select.filter(contains(view, text, query));
        }
    }
    let total_size = match (with_total_size, query) {
        (false, _) => None,
        (true, None) => Some(group::user_count(view.db(), *group_id).await?),
        (true, Some(_)) => Some(select.clone().count(view.db()).await?),
    };
    let select = if by_user {
        KEYSET.select(select, page)
    } else {
        KEYSET_IN_GROUP.select(select, page)
    };
    let models = select.all(view.db()).await?;
    if models.is_empty() {
        group::must_exist(view.db(), *group_id).await?;
    }
    Ok(Page {
        revision: view.revision(),
        total_size,
        ..paginate(models, page, cursor)
    })
}
