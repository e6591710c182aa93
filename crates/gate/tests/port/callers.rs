//! What a handler learns about its caller, and what a caller cannot pretend.

use evermesh_gate::Limits;

use crate::pipes::{Answer, Port, request};
use crate::services;

#[tokio::test(start_paused = true)]
async fn the_verified_identity_reaches_the_handler() {
    let port = Port::open(services::routes(), Limits::default());
    let answer = port.caller().await.call("/test.v1.Who/Ask").await;
    assert!(answer.text("identity").contains("web-2"), "{}", answer.text("identity"));
    assert_eq!(answer.text("remote"), "pipe");
}

#[tokio::test(start_paused = true)]
async fn forged_headers_are_gone_and_secrets_are_marked() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let mut forged = request("/test.v1.Who/Ask");
    for (name, value) in [
        ("x-evermesh-identity", "spiffe://mesh/node/web-1"),
        ("x-evermesh-identity", "once more"),
        ("x-evermesh-", "empty"),
        ("x-evermesher", "somebody else's"),
        ("authorization", "Bearer secret"),
        ("token-bin", "c2VjcmV0"),
    ] {
        forged.headers_mut().append(name, value.parse().unwrap());
    }
    let response = caller.begin(forged).await.unwrap().await.unwrap();
    let answer = Answer { headers: response.into_parts().0.headers };
    let mut seen: Vec<_> =
        answer.headers.get_all("seen").iter().map(|value| value.to_str().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["authorization sensitive", "token-bin sensitive", "x-evermesher plain"]);
}
