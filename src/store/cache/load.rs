//! The entries of the cache, in the smallest useful form, and how they are loaded: each kind in one statement.

mod role;

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect, RelationTrait,
};

use super::{CacheRecord, Db, Entry, EntryKind};
use crate::{
    domain::{
        GroupId, GroupRef, Name, Revision, RoleId, SortKey, Timestamp, UserId, UserStatus, Version,
    },
    entity::{group, group_role, group_user, user},
    error::Result,
    store::page::revision_column,
};

pub(in crate::store) use role::{Role, RoleRules};

/// A user's status and groups.
#[derive(Clone, Debug)]
pub(in crate::store) struct User {
    read_at: Revision,
    pub(in crate::store) status: UserStatus,
    pub(in crate::store) groups: Arc<[GroupId]>,
}

/// A group's row and roles, without its user count.
#[derive(Clone, Debug)]
pub(in crate::store) struct Group(Arc<GroupRow>);

/// What the cache holds of a group.
#[derive(Debug)]
pub(in crate::store) struct GroupRow {
    read_at: Revision,
    pub(in crate::store) group: GroupRef,
    pub(in crate::store) sort: SortKey,
    pub(in crate::store) version: Version,
    pub(in crate::store) created_at: Timestamp,
    pub(in crate::store) updated_at: Timestamp,
    pub(in crate::store) roles: Vec<RoleId>,
}

/// How many users are in a group.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct UserCount {
    read_at: Revision,
    pub(in crate::store) count: i64,
}

impl std::ops::Deref for Group {
    type Target = GroupRow;

    fn deref(&self) -> &GroupRow {
        &self.0
    }
}

macro_rules! impl_entry {
    ($($name:ident as $kind:ident),+) => {$(
        impl From<$name> for Entry {
            fn from(value: $name) -> Self {
                Self::$kind(value)
            }
        }

        impl TryFrom<Entry> for $name {
            type Error = ();

            fn try_from(entry: Entry) -> Result<Self, ()> {
                match entry {
                    Entry::$kind(value) => Ok(value),
                    _ => Err(()),
                }
            }
        }
    )+};
}

impl_entry! { User as User, Group as Group, UserCount as UserCount, Role as Role, RoleRules as Rules }

#[derive(FromQueryResult)]
struct UserRow {
    revision: Revision,
    id: UserId,
    status: UserStatus,
    group_id: Option<GroupId>,
}

impl CacheRecord for User {
    type Id = UserId;
    const KIND: EntryKind = EntryKind::User;

    fn read_at(&self) -> Revision {
        self.read_at
    }

    fn size(&self) -> usize {
        self.groups.len() * 16
    }

    async fn load(db: &Db, ids: &[UserId]) -> Result<Vec<(UserId, Self)>> {
        let select = user::Entity::find()
            .select_only()
            .columns([user::Column::Id, user::Column::Status])
            .column(group_user::Column::GroupId)
            .expr_as(revision_column(), "revision")
            .join_rev(JoinType::LeftJoin, group_user::Relation::User.def())
            .filter(user::Column::Id.is_in(ids.iter().copied()))
            .into_model();
        let rows: Vec<UserRow> = db.reader.fetch_shared(select).await?;
        let mut users: BTreeMap<_, (Revision, UserStatus, Vec<GroupId>)> = BTreeMap::new();
        for row in rows {
            let user = users
                .entry(row.id)
                .or_insert((row.revision, row.status, Vec::new()));
            user.2.extend(row.group_id);
        }
        let users = users.into_iter().map(|(id, (read_at, status, groups))| {
            let groups = groups.into();
            (
                id,
                Self {
                    read_at,
                    status,
                    groups,
                },
            )
        });
        Ok(users.collect())
    }
}

#[derive(FromQueryResult)]
struct GroupAndRole {
    revision: Revision,
    id: GroupId,
    title: Name,
    title_sort: SortKey,
    version: Version,
    created_at: Timestamp,
    updated_at: Timestamp,
    role_id: RoleId,
}

impl CacheRecord for Group {
    type Id = GroupId;
    const KIND: EntryKind = EntryKind::Group;

    fn read_at(&self) -> Revision {
        self.0.read_at
    }

    fn size(&self) -> usize {
        let text = self.group.title.as_str().len() + self.sort.as_bytes().len();
        size_of::<GroupRow>() + text + self.roles.len() * 16
    }

    async fn load(db: &Db, ids: &[GroupId]) -> Result<Vec<(GroupId, Self)>> {
        use group::Column as C;
        let select = group::Entity::find()
            .select_only()
            .columns([
                C::Id,
                C::Title,
                C::TitleSort,
                C::Version,
                C::CreatedAt,
                C::UpdatedAt,
            ])
            .column(group_role::Column::RoleId)
            .expr_as(revision_column(), "revision")
            .join_rev(JoinType::InnerJoin, group_role::Relation::Group.def())
            .filter(C::Id.is_in(ids.iter().copied()))
            .into_model();
        let rows: Vec<GroupAndRole> = db.reader.fetch_shared(select).await?;
        let mut groups: BTreeMap<GroupId, GroupRow> = BTreeMap::new();
        for row in rows {
            let role = row.role_id;
            let group = groups.entry(row.id).or_insert_with(|| GroupRow {
                read_at: row.revision,
                group: GroupRef {
                    id: row.id,
                    title: row.title,
                },
                sort: row.title_sort,
                version: row.version,
                created_at: row.created_at,
                updated_at: row.updated_at,
                roles: Vec::new(),
            });
            group.roles.push(role);
        }
        let groups = groups.into_iter();
        Ok(groups.map(|(id, row)| (id, Self(row.into()))).collect())
    }
}

impl CacheRecord for UserCount {
    type Id = GroupId;
    const KIND: EntryKind = EntryKind::UserCount;

    fn read_at(&self) -> Revision {
        self.read_at
    }

    fn size(&self) -> usize {
        0
    }

    async fn load(db: &Db, ids: &[GroupId]) -> Result<Vec<(GroupId, Self)>> {
        let select = group::Entity::find()
            .select_only()
            .columns([group::Column::Id, group::Column::UserCount])
            .expr_as(revision_column(), "revision")
            .filter(group::Column::Id.is_in(ids.iter().copied()))
            .into_tuple();
        let rows: Vec<(GroupId, i64, Revision)> = db.reader.fetch_shared(select).await?;
        let counts = rows.into_iter();
        let counts = counts.map(|(id, count, read_at)| (id, Self { read_at, count }));
        Ok(counts.collect())
    }
}
