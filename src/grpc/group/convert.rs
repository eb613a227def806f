//! Conversions of `groups.v1.GroupService` requests to commands, and of groups to responses.

use std::collections::HashSet;

use crate::{
    domain::{
        CreateGroup, DeleteGroup, Etag, Get, GroupId, ListGroups, ListRolesInGroup,
        ListUsersInGroup, Name, Order, PageRequest, Revision, RoleId, Scope, SearchQuery,
        UpdateGroup, UserId, Violations,
    },
    error::Error,
    grpc::timestamp,
    pb,
    store::group::Group,
};

/// Maximum number of roles that one request may add to a group, and that it may remove.
const MAX_ROLES: usize = 100;

impl TryFrom<pb::CreateGroupRequest> for CreateGroup {
    type Error = Error;

    fn try_from(request: pb::CreateGroupRequest) -> Result<Self, Error> {
        let pb::CreateGroupRequest {
            title,
            role_ids,
            request_id: _,
        } = request;
        let mut violations = Violations::default();
        let title = violations.name("title", &title);
        let role_ids = violations.ids("role_ids", &role_ids, 1..=MAX_ROLES);
        match (title, role_ids) {
            (Some(title), Some(role_ids)) => Ok(Self { title, role_ids }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::GetGroupRequest> for Get<GroupId> {
    type Error = Error;

    fn try_from(request: pb::GetGroupRequest) -> Result<Self, Error> {
        let pb::GetGroupRequest {
            group_id,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("group_id", &group_id);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        match (id, min_revision) {
            (Some(id), Some(min_revision)) => Ok(Self { id, min_revision }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListGroupsRequest> for ListGroups {
    type Error = Error;

    fn try_from(request: pb::ListGroupsRequest) -> Result<Self, Error> {
        let pb::ListGroupsRequest {
            page_size,
            page_token,
            query,
            role_id,
            user_id,
            order_by,
            with_total_size,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let query = violations.check("query", SearchQuery::parse(&query));
        let role_id = violations.optional_id::<RoleId>("role_id", &role_id);
        let user_id = violations.optional_id::<UserId>("user_id", &user_id);
        let order = violations.check("order_by", Order::parse(&order_by, "title"));
        let scope = match (&query, role_id, user_id) {
            (Some(query), Some(role_id), Some(user_id)) => Some(
                Scope::new("groups")
                    .text(query.as_ref())
                    .id(role_id.map(RoleId::uuid))
                    .id(user_id.map(UserId::uuid)),
            ),
            _ => None,
        };
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (page, query, role_id, user_id, min_revision) {
            (Some(page), Some(query), Some(role_id), Some(user_id), Some(min_revision)) => {
                Ok(Self {
                    page,
                    query,
                    role_id,
                    user_id,
                    with_total_size,
                    min_revision,
                })
            }
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::UpdateGroupRequest> for UpdateGroup {
    type Error = Error;

    fn try_from(request: pb::UpdateGroupRequest) -> Result<Self, Error> {
        let pb::UpdateGroupRequest {
            group_id,
            title,
            add_role_ids,
            remove_role_ids,
            etag,
            request_id: _,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("group_id", &group_id);
        let title = violations.optional("title", title.as_deref(), Name::parse);
        let add = violations.ids("add_role_ids", &add_role_ids, 0..=MAX_ROLES);
        let remove = violations.ids("remove_role_ids", &remove_role_ids, 0..=MAX_ROLES);
        if let (Some(add), Some(remove)) = (&add, &remove) {
            add_and_remove_differ(&mut violations, add, remove);
        }
        let etag = Etag::parse_optional(etag);
        match (id, title, add, remove) {
            (Some(id), Some(title), Some(add), Some(remove)) if violations.is_empty() => Ok(Self {
                id,
                title,
                add,
                remove,
                etag,
            }),
            _ => Err(violations.into()),
        }
    }
}

fn add_and_remove_differ(violations: &mut Violations, add: &[RoleId], remove: &[RoleId]) {
    let add: HashSet<_> = add.iter().collect();
    for (index, id) in remove.iter().enumerate().filter(|(_, id)| add.contains(id)) {
        violations.add(
            format!("remove_role_ids[{index}]"),
            format!("must not be in add_role_ids, too: {id}"),
        );
    }
}

impl TryFrom<pb::DeleteGroupRequest> for DeleteGroup {
    type Error = Error;

    fn try_from(request: pb::DeleteGroupRequest) -> Result<Self, Error> {
        let pb::DeleteGroupRequest {
            group_id,
            etag,
            allow_missing,
        } = request;
        let mut violations = Violations::default();
        let etag = Etag::parse_optional(etag);
        match violations.id("group_id", &group_id) {
            Some(id) => Ok(Self {
                id,
                etag,
                allow_missing,
            }),
            None => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListRolesInGroupRequest> for ListRolesInGroup {
    type Error = Error;

    fn try_from(request: pb::ListRolesInGroupRequest) -> Result<Self, Error> {
        let pb::ListRolesInGroupRequest {
            group_id,
            page_size,
            page_token,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let group_id = violations.id::<GroupId>("group_id", &group_id);
        let order = Some(Order::BY_NAME);
        let scope = group_id.map(|id| Scope::new("roles in group").id(Some(id.uuid())));
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (group_id, page, min_revision) {
            (Some(group_id), Some(page), Some(min_revision)) => Ok(Self {
                group_id,
                page,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListUsersInGroupRequest> for ListUsersInGroup {
    type Error = Error;

    fn try_from(request: pb::ListUsersInGroupRequest) -> Result<Self, Error> {
        let pb::ListUsersInGroupRequest {
            group_id,
            page_size,
            page_token,
            query,
            with_total_size,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let group_id = violations.id::<GroupId>("group_id", &group_id);
        let query = violations.check("query", SearchQuery::parse(&query));
        let order = Some(Order::BY_NAME);
        let scope = match (group_id, &query) {
            (Some(id), Some(query)) => Some(
                Scope::new("users in group")
                    .id(Some(id.uuid()))
                    .text(query.as_ref()),
            ),
            _ => None,
        };
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (group_id, page, query, min_revision) {
            (Some(group_id), Some(page), Some(query), Some(min_revision)) => Ok(Self {
                group_id,
                page,
                query,
                with_total_size,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl From<Group> for pb::Group {
    fn from(group: Group) -> Self {
        let Group {
            id,
            title,
            roles,
            user_count,
            version,
            created_at,
            updated_at,
        } = group;
        Self {
            id: id.to_string(),
            title: title.into_string(),
            roles: roles.into_iter().map(Into::into).collect(),
            user_count,
            create_time: Some(timestamp(created_at)),
            update_time: Some(timestamp(updated_at)),
            etag: version.etag(),
        }
    }
}
