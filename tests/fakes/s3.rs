//! A bucket, by moto, at the address of this machine that a box reaches it under and nobody else does.
//!
//! Invariant: what is planted or read here goes to it directly, not through what is under test.

use super::aws::servers::PythonServer;
use crate::boxes::TestBox;

/// Whoever has put something there; moto asks for a name and does not compare signatures.
const OWNER: &str =
    "AWS4-HMAC-SHA256 Credential=ship/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// A running store with one bucket.
#[derive(Debug)]
pub struct Store {
    server: PythonServer,
    bucket: String,
}

impl Store {
    /// One that this box, and those started later, can reach for as long as this box is there.
    pub fn start(server: &TestBox, bucket: &str) -> Self {
        let route = server.exec("ip -4 route show default");
        let host = route.split_whitespace().nth(2).expect("a default route").to_owned();
        let store = Self { server: PythonServer::s3(&host), bucket: bucket.to_owned() };
        store.request(reqwest::Method::PUT, "", Vec::new());
        store
    }

    /// Its address, as `endpoint` of `ship.yml`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn request(&self, method: reqwest::Method, path: &str, body: Vec<u8>) -> Vec<u8> {
        let url = format!("{}/{}{path}", self.endpoint(), self.bucket);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = client
                .request(method, &url)
                .header("Authorization", OWNER)
                .body(body)
                .send()
                .await
                .expect("an answer of moto's");
            assert!(answer.status().is_success(), "{url}: {}", answer.status());
            answer.bytes().await.expect("a body").to_vec()
        })
    }

    /// The names of all objects that begin so.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.request(reqwest::Method::GET, &format!("?list-type=2&prefix={prefix}"), Vec::new());
        let text = String::from_utf8(listed).expect("XML");
        text.split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split("</Key>").next())
            .map(str::to_owned)
            .collect()
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.request(reqwest::Method::GET, &format!("/{key}"), Vec::new())
    }

    /// Puts bytes in an object's place.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        self.request(reqwest::Method::PUT, &format!("/{key}"), bytes);
    }
}
