//! `groups.v1.RoleService`.

use tonic::{Request, Response, Status};

use super::{page::fit, timestamp};
use crate::{
    domain::{
        CreateRole, DeleteRole, Etag, Folded, ListRoles, Name, Note, Order, PageRequest, RoleId,
        Scope, UpdateRole, Violations,
    },
    entity::role,
    error::Error,
    pb::{self, role_service_server::RoleService},
    store::{self, Db, group::RoleRef},
};

/// The implementation of `groups.v1.RoleService`.
#[derive(Debug)]
pub struct Roles(pub Db);

#[tonic::async_trait]
impl RoleService for Roles {
    async fn create_role(
        &self,
        request: Request<pb::CreateRoleRequest>,
    ) -> Result<Response<pb::CreateRoleResponse>, Status> {
        let command = CreateRole::try_from(request.into_inner())?;
        let role = Some(store::write(&self.0, command).await?.into());
        Ok(Response::new(pb::CreateRoleResponse { role }))
    }

    async fn get_role(
        &self,
        request: Request<pb::GetRoleRequest>,
    ) -> Result<Response<pb::GetRoleResponse>, Status> {
        let id = RoleId::try_from(request.into_inner())?;
        let role = Some(store::role::get(&self.0, id).await?.into());
        Ok(Response::new(pb::GetRoleResponse { role }))
    }

    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        let list = ListRoles::try_from(request.into_inner())?;
        let page = store::role::list(&self.0, &list).await?;
        let (roles, next_page_token) = fit(page, &list.page.scope);
        Ok(Response::new(pb::ListRolesResponse {
            roles,
            next_page_token,
        }))
    }

    async fn update_role(
        &self,
        request: Request<pb::UpdateRoleRequest>,
    ) -> Result<Response<pb::UpdateRoleResponse>, Status> {
        let command = UpdateRole::try_from(request.into_inner())?;
        let role = Some(store::write(&self.0, command).await?.into());
        Ok(Response::new(pb::UpdateRoleResponse { role }))
    }

    async fn delete_role(
        &self,
        request: Request<pb::DeleteRoleRequest>,
    ) -> Result<Response<pb::DeleteRoleResponse>, Status> {
        let command = DeleteRole::try_from(request.into_inner())?;
        store::write(&self.0, command).await?;
        Ok(Response::new(pb::DeleteRoleResponse {}))
    }
}

impl TryFrom<pb::CreateRoleRequest> for CreateRole {
    type Error = Error;

    fn try_from(request: pb::CreateRoleRequest) -> Result<Self, Error> {
        let pb::CreateRoleRequest { name, description } = request;
        let mut violations = Violations::default();
        let name = violations.name("name", &name);
        let description = violations.check("description", Note::parse(&description));
        match (name, description) {
            (Some(name), Some(description)) => Ok(Self { name, description }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::GetRoleRequest> for RoleId {
    type Error = Error;

    fn try_from(request: pb::GetRoleRequest) -> Result<Self, Error> {
        let pb::GetRoleRequest { role_id } = request;
        let mut violations = Violations::default();
        violations
            .id("role_id", &role_id)
            .ok_or_else(|| violations.into())
    }
}

impl TryFrom<pb::ListRolesRequest> for ListRoles {
    type Error = Error;

    fn try_from(request: pb::ListRolesRequest) -> Result<Self, Error> {
        let pb::ListRolesRequest {
            page_size,
            page_token,
            query,
            order_by,
        } = request;
        let mut violations = Violations::default();
        let query = violations.check("query", Folded::query(&query));
        let order = violations.check("order_by", Order::parse(&order_by, "name"));
        let scope = query
            .as_ref()
            .map(|query| Scope::new("roles").text(query.as_ref()));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (page, query) {
            (Some(page), Some(query)) => Ok(Self { page, query }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::UpdateRoleRequest> for UpdateRole {
    type Error = Error;

    fn try_from(request: pb::UpdateRoleRequest) -> Result<Self, Error> {
        let pb::UpdateRoleRequest {
            role_id,
            name,
            description,
            etag,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("role_id", &role_id);
        let name = violations.optional("name", name.as_deref(), Name::parse);
        let description = violations.optional("description", description.as_deref(), Note::parse);
        let etag = Etag::condition(etag);
        match (id, name, description) {
            (Some(id), Some(name), Some(description)) => Ok(Self {
                id,
                name,
                description,
                etag,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::DeleteRoleRequest> for DeleteRole {
    type Error = Error;

    fn try_from(request: pb::DeleteRoleRequest) -> Result<Self, Error> {
        let pb::DeleteRoleRequest {
            role_id,
            etag,
            allow_missing,
        } = request;
        let mut violations = Violations::default();
        let etag = Etag::condition(etag);
        match violations.id("role_id", &role_id) {
            Some(id) => Ok(Self {
                id,
                etag,
                allow_missing,
            }),
            None => Err(violations.into()),
        }
    }
}

impl From<role::Model> for pb::Role {
    fn from(role: role::Model) -> Self {
        Self {
            id: role.id.to_string(),
            name: role.name.into_string(),
            description: role.description.into_string(),
            group_count: role.group_count,
            create_time: Some(timestamp(role.created_at)),
            update_time: Some(timestamp(role.updated_at)),
            etag: role.version.etag(),
        }
    }
}

impl From<RoleRef> for pb::RoleRef {
    fn from(RoleRef { id, name }: RoleRef) -> Self {
        Self {
            id: id.to_string(),
            name: name.into_string(),
        }
    }
}
