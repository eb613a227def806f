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
        At, Page, Read, View, group,
        page::{Keyset, cut},
        search::{USERS, contains, found},
    },
};

/// A group's users, in an index of their own: however many they are, a page of them is a part of it.
const KEYSET_IN_GROUP: Keyset<group_user::Column> = Keyset {
    name: group_user::Column::UsernameSort,
    created_at: group_user::Column::GroupCreatedAt,
    id: group_user::Column::UserId,
};

/// So many users are looked through sooner than an index of all users is.
const FEW: u64 = 50;

impl Read for Get<UserId> {
    type Output = At<user::Model>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<At<user::Model>> {
        let found = user::Entity::find_by_id(self.id).one(view.db()).await?;
        Ok(At {
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
        select = select.filter(found(view, &USERS, text, id, query).await?.condition);
    }
    if let Some(status) = status {
        select = select.filter(user::Column::Status.eq(*status));
    }
    let models = KEYSET.select(select, page).all(view.db()).await?;
    Ok(Page {
        revision: view.revision(),
        ..cut(models, page, cursor)
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
        if group::user_count(view.db(), *group_id).await? > FEW {
            let found = found(view, &USERS, text, id, query).await?;
            by_user = found.few;
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
        ..cut(models, page, cursor)
    })
}
