//! Reading groups.

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder, QuerySelect,
    RelationTrait,
};

use super::{Group, missing};
use crate::{
    domain::{Get, GroupId, Name, Revision, RoleId, RoleRef, Timestamp, Version},
    entity::{group, group_role, role},
    error::Result,
    store::{AtRevision, CacheSnapshot, Read, View, cache, page::revision_column},
};

/// A group joined with one of its roles.
#[derive(FromQueryResult)]
struct GroupAndRole {
    id: GroupId,
    title: Name,
    user_count: i64,
    version: Version,
    created_at: Timestamp,
    updated_at: Timestamp,
    role_id: RoleId,
    role_name: Name,
    revision: Revision,
}

impl Read for Get<GroupId> {
    type Output = AtRevision<Group>;

    const REPORTS_REVISION: bool = true;
    const CACHEABLE: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read_cached(&self, snapshot: &CacheSnapshot<'_>) -> Result<Option<AtRevision<Group>>> {
        read_cached(snapshot, self.id).await
    }

    async fn read(&self, view: &View<'_>) -> Result<AtRevision<Group>> {
        get(view, self.id).await
    }
}

/// Reads a group in one statement: it always has a role, so the inner join returns at least one row.
async fn get(view: &View<'_>, id: GroupId) -> Result<AtRevision<Group>> {
    use group::Column as C;
    let rows: Vec<GroupAndRole> = group::Entity::find()
        .select_only()
        .columns([
            C::Id,
            C::Title,
            C::UserCount,
            C::Version,
            C::CreatedAt,
            C::UpdatedAt,
        ])
        .column_as(role::Column::Id, "role_id")
        .column_as(role::Column::Name, "role_name")
        .expr_as(revision_column(), "revision")
        .join_rev(JoinType::InnerJoin, group_role::Relation::Group.def())
        .join(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(C::Id.eq(id))
        .order_by_asc(role::Column::NameSort)
        .order_by_asc(role::Column::Id)
        .into_model()
        .all(view.db())
        .await?;
    let mut rows = rows.into_iter();
    let first = rows.next().ok_or_else(|| missing(id))?;
    view.observe_revision(first.revision);
    let mut roles = vec![RoleRef {
        id: first.role_id,
        name: first.role_name,
    }];
    roles.extend(rows.map(|row| RoleRef {
        id: row.role_id,
        name: row.role_name,
    }));
    let value = Group {
        id: first.id,
        title: first.title,
        roles,
        user_count: first.user_count,
        version: first.version,
        created_at: first.created_at,
        updated_at: first.updated_at,
    };
    Ok(AtRevision {
        value,
        revision: first.revision,
    })
}

/// Reads a group from the cache.
async fn read_cached(
    snapshot: &CacheSnapshot<'_>,
    id: GroupId,
) -> Result<Option<AtRevision<Group>>> {
    let Some(group) = snapshot.get::<cache::Group>(id).await? else {
        return Ok(None);
    };
    let Some(count) = snapshot.get::<cache::UserCount>(id).await? else {
        return Ok(None);
    };
    let Some(mut roles) = snapshot.get_all::<cache::RoleRules>(&group.roles).await? else {
        return Ok(None);
    };
    roles.sort_unstable_by(|a, b| (&a.sort, a.role.id).cmp(&(&b.sort, b.role.id)));
    Ok(Some(AtRevision {
        value: Group {
            id,
            title: group.group.title.clone(),
            roles: roles.iter().map(|role| role.role.clone()).collect(),
            user_count: count.count,
            version: group.version,
            created_at: group.created_at,
            updated_at: group.updated_at,
        },
        revision: snapshot.revision(),
    }))
}
