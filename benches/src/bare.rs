//! Bare tonic: the server's gRPC stack without its logic, which returns the same responses from memory.

use std::{io::Read, time::Duration};

use bytes::Bytes;
use group_service::pb::{
    self,
    access_service_server::{AccessService, AccessServiceServer},
    group_service_server::{GroupService, GroupServiceServer},
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{channel::TestCertificate, child::ChildProcess};

/// The responses, as returned by the real server.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) roles: pb::ListRolesInGroupResponse,
    pub(crate) access: pb::CheckAccessResponse,
    pub(crate) group: pb::GetGroupResponse,
}

/// Starts the baseline with these responses, with TLS if a certificate is given; returns its address.
pub(crate) fn start(
    answers: &Answers,
    certificate: Option<&TestCertificate>,
) -> (ChildProcess, String) {
    let files = certificate.map(|signed| [&signed.certificate, &signed.key]);
    let files = files.iter().flatten();
    let files: Vec<_> = files.map(|path| path.to_str().expect("text")).collect();
    let mut helper = ChildProcess::start("bare", &files, None);
    let mut bytes = answers.roles.encode_length_delimited_to_vec();
    bytes.extend(answers.access.encode_length_delimited_to_vec());
    bytes.extend(answers.group.encode_length_delimited_to_vec());
    let length = u32::try_from(bytes.len()).expect("small");
    helper.send(&length.to_be_bytes());
    helper.send(&bytes);
    let address = helper.line();
    (helper, address)
}

/// Main function of the baseline process.
pub(crate) fn main(files: &[String]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(files));
}

async fn serve(files: &[String]) {
    let mut input = std::io::stdin();
    let mut length = [0; 4];
    input.read_exact(&mut length).expect("a length");
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut bytes).expect("answers");
    let mut bytes = Bytes::from(bytes);
    let answers = Answers {
        roles: Message::decode_length_delimited(&mut bytes).expect("roles"),
        access: Message::decode_length_delimited(&mut bytes).expect("access"),
        group: Message::decode_length_delimited(&mut bytes).expect("a group"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    println!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(|| {
        // Ends with its parent process.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let mut server = Server::builder();
    if let [certificate, key] = files {
        let read = |path| std::fs::read(path).expect("read");
        let identity = Identity::from_pem(read(certificate), read(key));
        // aws-lc, the only crypto provider in this build, as in src/tls.rs.
        let tls = ServerTlsConfig::new().identity(identity);
        server = server.tls_config(tls).expect("they go together");
    }
    // The same settings as in src/server.rs.
    server
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(AccessServiceServer::new(answers.clone()))
        .add_service(GroupServiceServer::new(answers))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .expect("served");
}

/// A service that returns responses from memory. RPCs that aren't measured have none.
macro_rules! service {
    ($service:ident { $($method:ident($request:ident) -> $response:ident = $answer:expr;)* }) => {
        #[tonic::async_trait]
        impl $service for Answers {
            $(async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                let answer: fn(&Self) -> Option<pb::$response> = $answer;
                answer(self).map(Response::new).ok_or_else(|| Status::unimplemented("not measured"))
            })*
        }
    };
}

service! { AccessService {
    check_access(CheckAccessRequest) -> CheckAccessResponse = |answers| Some(answers.access.clone());
    batch_check_access(BatchCheckAccessRequest) -> BatchCheckAccessResponse = |_| None;
    list_users_with_access(ListUsersWithAccessRequest) -> ListUsersWithAccessResponse = |_| None;
} }

service! { GroupService {
    get_group(GetGroupRequest) -> GetGroupResponse = |answers| Some(answers.group.clone());
    list_roles_in_group(ListRolesInGroupRequest) -> ListRolesInGroupResponse = |answers| Some(answers.roles.clone());
    create_group(CreateGroupRequest) -> CreateGroupResponse = |_| None;
    list_groups(ListGroupsRequest) -> ListGroupsResponse = |_| None;
    update_group(UpdateGroupRequest) -> UpdateGroupResponse = |_| None;
    delete_group(DeleteGroupRequest) -> DeleteGroupResponse = |_| None;
    list_users_in_group(ListUsersInGroupRequest) -> ListUsersInGroupResponse = |_| None;
    assign_user(AssignUserRequest) -> AssignUserResponse = |_| None;
    unassign_user(UnassignUserRequest) -> UnassignUserResponse = |_| None;
    batch_assign_users(BatchAssignUsersRequest) -> BatchAssignUsersResponse = |_| None;
    batch_unassign_users(BatchUnassignUsersRequest) -> BatchUnassignUsersResponse = |_| None;
} }
