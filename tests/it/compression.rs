//! Compressed requests and responses.

use group_service::pb::{self, role_service_client::RoleServiceClient};
use tonic::{Code, Status, codec::CompressionEncoding::Gzip, transport::Channel};

use crate::harness::{Process, binary};

async fn start(further: &[&str]) -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("small.db").display());
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--database-url", &url])
        .args(further);
    (Process::spawn(command).await, dir)
}

/// Creates a role with this description; returns the encoding of the response.
async fn create(
    roles: &mut RoleServiceClient<Channel>,
    name: &str,
    description: String,
) -> Result<Option<String>, Status> {
    let request = pb::CreateRoleRequest {
        name: name.to_owned(),
        description: description.clone(),
        ..Default::default()
    };
    let answer = roles.create_role(request).await?;
    let packed = answer.metadata().get("grpc-encoding");
    let packed = packed.map(|value| value.to_str().expect("text").to_owned());
    let role = answer.into_inner().role.expect("a role");
    assert_eq!(role.description, description);
    Ok(packed)
}

#[tokio::test]
async fn compression_is_off_by_default() {
    let (server, _dir) = start(&[]).await;
    let roles = RoleServiceClient::new(server.connect().await);
    let mut packing = roles.clone().send_compressed(Gzip);
    let refused = create(&mut packing, "A", "a".into()).await;
    assert_eq!(refused.expect_err("refused").code(), Code::Unimplemented);
    let mut taking = roles.accept_compressed(Gzip);
    let packed = create(&mut taking, "B", "b".repeat(500)).await;
    assert_eq!(packed.expect("created"), None);
    server.stop().await;
}

#[tokio::test]
async fn gzip_compresses_requests_and_responses_when_accepted() {
    let (server, _dir) = start(&["--compression", "gzip"]).await;
    let roles = RoleServiceClient::new(server.connect().await);
    let mut plain = roles.clone();
    let packed = create(&mut plain, "A", "a".repeat(500)).await;
    assert_eq!(packed.expect("created"), None);
    let mut both = roles.send_compressed(Gzip).accept_compressed(Gzip);
    let packed = create(&mut both, "B", "b".repeat(500)).await;
    assert_eq!(packed.expect("created").as_deref(), Some("gzip"));
    // A few KiB that decompress to more than the maximum message size are rejected; the server keeps serving.
    let bomb = create(&mut both, "C", "c".repeat(5 << 20)).await;
    let refused = bomb.expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let packed = create(&mut both, "D", "d".repeat(500)).await;
    assert_eq!(packed.expect("created").as_deref(), Some("gzip"));
    server.stop().await;
}
