//! Components that behave well: the questions to an executor, and its answers.

use std::sync::Arc;

use super::{House, open, run, run_unseen};
use crate::plugin::{
    catalog::Status,
    engine::{POOLED, Wasm},
    fixtures::{self, Recorder, Wat},
    port::{AuthorityStep, HealthState},
};

#[tokio::test]
async fn a_good_guest_answers_every_question() {
    let house = House::with(&Wat::good().component());
    let executor = house.executor();
    assert_eq!(executor.validate("{}", &vec![]).await.unwrap(), []);
    let authority = executor.authority(&fixtures::draft("{}")).await;
    assert_eq!(authority.step, AuthorityStep::Edit);
    // Each of several documents in one request gets an answer.
    let several = ["{}", "{}", "{}"].map(fixtures::draft);
    let each = executor.validate_each(several.into()).await.unwrap();
    assert_eq!(each, [[], [], []]);
    assert_eq!(executor.task_schema().await.unwrap(), "{}");
    let inspection = house.catalog.inspect("guest").await.unwrap();
    assert!(
        matches!(&inspection.listing.status, Status::Looked(health) if health.state == HealthState::Healthy)
    );
    let component = inspection.component.unwrap();
    let process = "claudine:plugin/process@0.1.0".to_owned();
    assert!(
        component.imports.contains(&process),
        "{:?}",
        component.imports
    );
    assert_eq!(
        (
            component.task_schema.as_str(),
            component.config_schema.as_str(),
            component.config_issues
        ),
        ("{}", "{}", vec![])
    );
    let host = Arc::new(Recorder::default());
    let outcome = run(executor, &host).await.unwrap();
    assert_eq!(
        (
            outcome.cause.as_str(),
            outcome.code,
            outcome.outputs.as_str()
        ),
        ("success", None, "{}")
    );
    assert_eq!(host.lines(), []);
}

#[tokio::test]
async fn a_guest_of_the_synchronous_abi_runs_too() {
    let house = House::with(&Wat::good().run("").component());
    let outcome = run_unseen(house.executor()).await.unwrap();
    assert_eq!(outcome.cause, "success");
}

#[tokio::test]
async fn instances_from_the_pool_and_on_demand_run_the_same_code() {
    let house = House::with(&Wat::good().component());
    run_unseen(house.executor()).await.unwrap();
    let cached = || {
        std::fs::read_dir(house.dir.path().join("cache"))
            .unwrap()
            .count()
    };
    assert_eq!(cached(), 2, "the cache holds the code and its record");
    let pooled = open(house.dir.path(), Wasm::start);
    run_unseen(pooled.executor("guest").unwrap()).await.unwrap();
    assert_eq!(cached(), 2);
}

#[tokio::test]
async fn an_instance_runs_beyond_the_pool_if_the_pool_is_full() {
    let house = House::with(&Wat::good().component());
    let pooled = open(house.dir.path(), Wasm::start);
    let executor = pooled.executor("guest").unwrap();
    let seats = executor.fill_pool().unwrap();
    assert_eq!(seats.len(), usize::try_from(POOLED).unwrap());
    let ran = run_unseen(executor).await.unwrap();
    assert_eq!(ran.cause, "success");
    executor.task_schema().await.unwrap();
}

/// If too many ended instances waited to be freed, the pool would have no room for an instance that
/// has a permit.
#[tokio::test]
async fn an_ended_instance_keeps_its_place_in_the_pool_until_it_is_freed() {
    let house = House::with(&Wat::good().component());
    let pooled = open(house.dir.path(), Wasm::start);
    let executor = pooled.executor("guest").unwrap();
    let most = usize::try_from(POOLED).unwrap();
    let free = || executor.fill_pool().unwrap().len();
    let ran = run_unseen(executor).await.unwrap();
    assert_eq!(ran.cause, "success");
    // The runtime of this test has one thread, which has not freed the instance yet.
    assert_eq!(free(), most - 1);
    while free() < most {
        tokio::task::yield_now().await;
    }
}
