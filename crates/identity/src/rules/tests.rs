//! The rule table: who may do what.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use evermesh_event::NodeName;

use super::{ALLOW_MAX, Act, Allow, Rules, SITES_MAX, Sites};
use crate::fixture::{Authority, called, named};
use crate::{Account, Error, Identity, Naming, peer_identity};

const OWN: u32 = 990;

fn allow(who: &str, sites: &[&str], acts: &[Act]) -> Allow {
    let sites = sites.iter().map(|site| (*site).to_owned()).collect();
    Allow { who: who.to_owned(), sites, acts: acts.to_vec() }
}

fn rules(allow: Vec<Allow>) -> Rules {
    Rules::new(allow, vec![Account::Uid(33)], OWN).unwrap()
}

fn local(uid: u32) -> Identity {
    Identity::local(uid, uid, None, None)
}

fn member() -> Identity {
    Identity::member_named(NodeName::new("web-1").unwrap())
}

fn app(uri: &'static str) -> Identity {
    let naming =
        Naming { trust_domain: Some("mesh".to_owned()), member_names: vec!["*.nodes".to_owned()] };
    let spec = if uri.starts_with("spiffe") { named(uri) } else { called(&[uri]) };
    peer_identity(Some(&[Authority::new().issue("x", &spec).der]), &naming).unwrap()
}

#[test]
fn the_defaults_are_these_and_no_more() {
    use Act::{Observe, Operate, Publish, Replicate, Subscribe};
    let rules = rules(vec![]);
    let table: [(Identity, &[Act]); 7] = [
        (member(), &[Replicate]),
        (app("spiffe://mesh/app/shop"), &[]),
        (app("shop.example"), &[]),
        (local(33), &[Publish, Subscribe]),
        (local(1000), &[]),
        (local(0), &[Publish, Subscribe, Observe, Operate]),
        (local(OWN), &[Publish, Subscribe, Observe, Operate]),
    ];
    for (who, permitted) in table {
        for act in Act::ALL {
            let expected = permitted.contains(&act);
            for site in [None, Some("shop")] {
                assert_eq!(rules.permits(&who, act, site).is_ok(), expected, "{who:?} {act}");
            }
            let sites = if expected { Sites::All } else { Sites::None };
            assert_eq!(rules.permitted_sites(&who, act), sites, "{who:?} {act}");
        }
    }
}

#[test]
fn allow_rules_add_sites_and_acts() {
    let rules = rules(vec![
        allow("spiffe://mesh/app/shop", &["shop"], &[Act::Publish, Act::Subscribe]),
        allow("spiffe://mesh/app/*", &["intranet"], &[Act::Subscribe]),
        allow("spiffe://mesh/app/ops", &["*"], &[Act::Observe, Act::Operate]),
        allow("dns:*.Example", &[], &[Act::Call]),
    ]);
    let shop = app("spiffe://mesh/app/shop");
    rules.permits(&shop, Act::Publish, Some("shop")).unwrap();
    let denied = rules.permits(&shop, Act::Publish, Some("intranet")).unwrap_err();
    assert_eq!(denied.reason, "OTHER_SITES");
    assert_eq!(denied.told(), "not allowed to publish to site `intranet`");
    assert_eq!(
        denied.to_string(),
        "spiffe://mesh/app/shop is not allowed to publish to site `intranet` (OTHER_SITES)"
    );
    // A rule for certain sites is none for the node as a whole.
    assert!(rules.permits(&shop, Act::Publish, None).is_err());
    let both = ["intranet", "shop"].map(str::to_owned).into();
    assert_eq!(rules.permitted_sites(&shop, Act::Subscribe), Sites::Only(both));
    assert!(rules.permitted_sites(&shop, Act::Subscribe).contains("shop"));
    assert!(!rules.permitted_sites(&shop, Act::Publish).contains("intranet"));

    let ops = app("spiffe://mesh/app/ops");
    rules.permits(&ops, Act::Operate, None).unwrap();
    assert_eq!(rules.permits(&ops, Act::Publish, Some("shop")).unwrap_err().reason, "NO_RULE");
    rules.permits(&app("Cart.example"), Act::Call, Some("/shop.v1.Cart/")).unwrap();
    let foreign = app("spiffe://elsewhere/app/shop");
    assert!(rules.permits(&foreign, Act::Publish, Some("shop")).is_err());
}

#[test]
fn no_rule_makes_anybody_but_a_member_replicate() {
    let rules = rules(vec![allow("*", &[], &Act::ALL)]);
    for who in [local(0), app("spiffe://mesh/app/shop"), app("spiffe://elsewhere/node/web-1")] {
        rules.permits(&who, Act::Operate, None).unwrap();
        assert_eq!(rules.permits(&who, Act::Replicate, None).unwrap_err().reason, "NOT_A_MEMBER");
        assert_eq!(rules.permitted_sites(&who, Act::Replicate), Sites::None);
    }
    rules.permits(&app("web-7.nodes"), Act::Replicate, None).unwrap();
}

#[test]
fn local_users_are_matched_by_number_and_by_name() {
    let rules = rules(vec![
        allow("local:uid=1001", &["a"], &[Act::Publish]),
        allow("local:user=deploy", &["b"], &[Act::Publish]),
        allow("local:user=root", &["c"], &[Act::Register]),
        allow("local:*", &["d"], &[Act::Publish]),
    ]);
    rules.permits(&local(1001), Act::Publish, Some("a")).unwrap();
    assert!(rules.permits(&local(1002), Act::Publish, Some("a")).is_err());
    let deploy = Identity::local(1002, 1002, None, Some("deploy"));
    rules.permits(&deploy, Act::Publish, Some("b")).unwrap();
    // Nobody looked up the caller's name: the rule knows the number.
    rules.permits(&local(0), Act::Register, Some("c")).unwrap();
    rules.permits(&local(1002), Act::Publish, Some("d")).unwrap();
    assert!(rules.permits(&member(), Act::Publish, Some("d")).is_err());
    // A certificate cannot pass for a local user.
    assert!(rules.permits(&app("local.uid.1001"), Act::Publish, Some("a")).is_err());
}

#[test]
fn accounts_are_looked_up_by_name() {
    let rules = Rules::new(vec![], vec![Account::from("root"), Account::from("33")], OWN).unwrap();
    rules.permits(&local(33), Act::Publish, Some("shop")).unwrap();
    let unknown = Rules::new(vec![], vec![Account::from("no-such-user-here")], OWN).unwrap_err();
    assert!(unknown.to_string().contains("`no-such-user-here` is unknown on this machine"));
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    let publish = &[Act::Publish][..];
    let table: [(&str, &[&str], &[Act], &str); 14] = [
        ("*", &[], &[], "allows no act"),
        ("", &[], publish, "matches nobody"),
        ("shop", &[], publish, "matches nobody"),
        ("spiffe:mesh/app/shop", &[], publish, "matches nobody"),
        ("dns:", &[], publish, "matches nobody"),
        ("local:", &[], publish, "is none of local:user=NAME"),
        ("local:shop", &[], publish, "is none of local:user=NAME"),
        ("local:uid=shop", &[], publish, "is none of local:user=NAME"),
        ("local:user=", &[], publish, "is none of local:user=NAME"),
        ("*", &["sh*"], publish, "a site is `*` or an exact name"),
        ("*", &["*", ""], publish, "a site is `*` or an exact name"),
        ("*", &["shop"], &[Act::Operate], "limits `operate` to sites"),
        ("*", &["shop"], &[Act::Publish, Act::Replicate], "limits `replicate` to sites"),
        ("dns:*a*a*a*a*a", &[], publish, "more than four"),
    ];
    for (who, sites, acts, words) in table {
        let refused = Rules::new(vec![allow(who, sites, acts)], vec![], OWN).unwrap_err();
        assert!(matches!(refused, Error::Rule { .. }));
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

#[test]
fn rules_are_bounded() {
    let one = allow("*", &[], &[Act::Publish]);
    let many = vec![one; ALLOW_MAX + 1];
    assert!(matches!(Rules::new(many, vec![], OWN), Err(Error::TooMany { .. })));
    let sites = vec!["shop"; SITES_MAX + 1];
    let wide = allow("*", &sites, &[Act::Publish]);
    assert!(matches!(Rules::new(vec![wide], vec![], OWN), Err(Error::TooMany { .. })));
}

#[test]
fn rules_read_as_the_configuration_writes_them() {
    #[derive(serde::Deserialize)]
    struct File {
        accounts: Vec<Account>,
        allow: Vec<Allow>,
    }
    let read = |text: &str| toml::from_str::<File>(text);
    let file = read(
        "accounts = ['www-data', '33', 1000]\n\
         [[allow]]\nwho = 'local:*'\nacts = ['publish', 'call']\n",
    )
    .unwrap();
    let accounts = [Account::User("www-data".to_owned()), Account::Uid(33), Account::Uid(1000)];
    assert_eq!(file.accounts, accounts);
    assert_eq!(file.allow, [allow("local:*", &[], &[Act::Publish, Act::Call])]);
    assert!(read("accounts = []\n[[allow]]\nwho = '*'\nacts = []\nsite = 'x'\n").is_err());
    assert!(read("accounts = [-1]\nallow = []\n").is_err());
}

#[test]
fn acts_are_words() {
    for act in Act::ALL {
        assert_eq!(act.to_string().parse::<Act>().unwrap(), act);
    }
    assert!("Publish".parse::<Act>().is_err());
}

#[test]
fn what_a_caller_wrote_reaches_no_log_raw() {
    let site = format!("x\n\u{1b}[2J{}", "y".repeat(1000));
    let denied = rules(vec![]).permits(&local(7), Act::Publish, Some(&site)).unwrap_err();
    let text = denied.to_string();
    assert!(text.len() < 200 && !text.contains(char::is_control), "{text}");
}
