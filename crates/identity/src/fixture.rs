//! Certificates for tests: real ones, with whatever a real authority should not have put into them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::{Credentials, Error, TlsFiles, load};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// An authority with a directory of its own, where `ca.pem` lies and leaves are written.
pub(crate) struct Authority {
    pub(crate) dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// What is in a leaf. Times are hours from now.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) uris: Vec<&'static str>,
    pub(crate) dns: Vec<&'static str>,
    pub(crate) hours: (i32, i32),
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
}

/// A leaf's files, and the certificate itself.
pub(crate) struct Leaf {
    pub(crate) files: TlsFiles,
    pub(crate) der: CertificateDer<'static>,
}

pub(crate) fn hours_from_now(hours: i32) -> SystemTime {
    let now = SystemTime::now();
    let distance = HOUR * hours.unsigned_abs();
    if hours < 0 { now - distance } else { now + distance }
}

/// A leaf that is fine, with this URI name.
pub(crate) fn named(uri: &'static str) -> Spec {
    let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Spec { uris: vec![uri], dns: vec![], hours: (-1, 1), purposes }
}

/// A leaf that is fine, with these DNS names.
pub(crate) fn called(dns: &[&'static str]) -> Spec {
    Spec { uris: vec![], dns: dns.to_vec(), ..named("") }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a leaf into files of this name.
    pub(crate) fn issue(&self, name: &str, spec: &Spec) -> Leaf {
        let mut params = CertificateParams::default();
        let uris = spec.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = spec.dns.iter().map(|dns| SanType::DnsName((*dns).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        params.not_before = hours_from_now(spec.hours.0).into();
        params.not_after = hours_from_now(spec.hours.1).into();
        params.extended_key_usages.clone_from(&spec.purposes);
        let pair = KeyPair::generate().unwrap();
        let made = params.signed_by(&pair, &self.issuer).unwrap();
        let cert = self.dir.path().join(format!("{name}.pem"));
        let key = self.dir.path().join(format!("{name}.key"));
        fs::write(&cert, made.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        chmod(&key, 0o600);
        Leaf { files: TlsFiles { cert, key, ca: self.ca() }, der: made.der().clone() }
    }

    /// A node's credentials, with DNS names `*.mesh.internal` for members.
    pub(crate) fn node(&self, name: &str, spec: &Spec) -> Result<Credentials, Error> {
        self.node_at(name, spec, SystemTime::now())
    }

    pub(crate) fn node_at(
        &self,
        name: &str,
        spec: &Spec,
        now: SystemTime,
    ) -> Result<Credentials, Error> {
        load(&self.issue(name, spec).files, &["*.mesh.internal".to_owned()], now)
    }
}

pub(crate) fn chmod(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn mode_of(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o7777
}

/// A server that shows any certificate and checks nobody, as an impostor would run it.
pub(crate) fn impostor(leaf: &Leaf) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(&leaf.files.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der.clone()], key)
        .unwrap();
    Arc::new(config)
}
