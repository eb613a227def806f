//! PostgreSQL with a synchronous standby behind HAProxy, as users of Patroni run it.

use group_service::pb;
use tonic::Code;
use tonic_health::ServingStatus;

use super::{instance, load::Load, until};
use crate::harness::{
    not_run, say,
    servers::{HaProxy, Postgres},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_all_that_was_acknowledged() {
    let mut primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return not_run("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    primary.synchronous().await;
    let proxy = match HaProxy::start(&[&primary, &standby]).await {
        Ok(proxy) => proxy,
        Err(why) => return not_run("PostgreSQL behind HAProxy", &why),
    };
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let replica = standby.url("directory");
        worlds.push(instance(&proxy.url("directory"), Some(&replica)).await);
    }
    let channels = worlds.iter().map(|world| world.channel.clone());
    let load = Load::begin(channels.collect(), 16, 16, &[Code::Unavailable]).await;
    load.go_on(500).await;
    primary.kill().await;
    until(&worlds[0], ServingStatus::NotServing).await;
    standby.promote().await;
    until(&worlds[0], ServingStatus::Serving).await;
    load.go_on(500).await;
    say(&format!(
        "PostgreSQL, a standby takes over: {}",
        load.prove().await
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_behind_answers_nobody_who_asks_for_more() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return not_run("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    let url = primary.url("directory");
    let world = instance(&url, Some(&standby.url("directory"))).await;
    let role = world.role("Seen").await.id;
    // Reads go to the standby once it has been seen to be in step.
    let mut roles = world.roles.clone();
    let list = pb::ListRolesRequest::default;
    let mut wanted = roles
        .list_roles(list())
        .await
        .expect("listed")
        .into_inner()
        .revision;

    standby.query("SELECT pg_wal_replay_pause()").await;
    world.role("Unseen").await;
    wanted += 1;
    // Without a revision an answer of the standby will do, for a while.
    let stale = async {
        loop {
            let page = roles.list_roles(list()).await.expect("listed").into_inner();
            if page.roles.len() == 1 {
                return page.revision;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let stale = tokio::time::timeout(std::time::Duration::from_secs(9), stale).await;
    assert!(stale.expect("the standby is read from") < wanted);
    for _ in 0..20 {
        let request = pb::ListRolesRequest {
            min_revision: wanted,
            ..Default::default()
        };
        let page = world.roles.clone().list_roles(request).await;
        let page = page.expect("the primary has it").into_inner();
        assert_eq!(page.roles.len(), 2);
        assert!(page.revision >= wanted);
    }
    let request = pb::GetRoleRequest {
        role_id: role,
        min_revision: wanted,
    };
    let got = world.roles.clone().get_role(request).await.expect("there");
    assert!(got.into_inner().revision >= wanted);
    standby.query("SELECT pg_wal_replay_resume()").await;
}
