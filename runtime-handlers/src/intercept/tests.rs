use std::sync::{Arc, Mutex};

use runtime_api::Evidence;

use super::*;
use crate::testing::{Toy, id};

/// Writes down when it is entered and left.
#[derive(Debug)]
struct Diary(&'static str, Arc<Mutex<Vec<String>>>);

impl Interceptor for Diary {
    fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        Box::pin(async move {
            self.1.lock().unwrap().push(format!("{} in {}", self.0, call.operation));
            let outcome = rest.await;
            self.1.lock().unwrap().push(format!("{} out", self.0));
            outcome
        })
    }
}

#[derive(Debug)]
struct Forgetful;

impl Interceptor for Forgetful {
    fn around<'a>(&'a self, _call: &'a Call<'a>, _rest: Rest<'a>) -> Rest<'a> {
        Box::pin(async { Ok(()) })
    }
}

#[derive(Debug)]
struct Boastful;

impl Interceptor for Boastful {
    fn around<'a>(&'a self, _call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        rest
    }

    fn narrow(&self, _inner: Capabilities) -> Capabilities {
        Capabilities::builder().yes(Capability::Pause, Evidence::design("says who?")).build().unwrap()
    }
}

#[tokio::test]
async fn the_first_layer_is_the_outermost() {
    let diary = Arc::new(Mutex::new(Vec::new()));
    let layers: Vec<Box<dyn Interceptor>> =
        vec![Box::new(Diary("outer", diary.clone())), Box::new(Diary("inner", diary.clone()))];
    let runtime = Intercepted::new(Arc::new(Toy::new("web")), layers).unwrap();
    assert!(runtime.list().await.unwrap().is_empty());
    assert_eq!(*diary.lock().unwrap(), ["outer in list", "inner in list", "inner out", "outer out"]);
}

#[tokio::test]
async fn a_layer_cannot_make_up_a_result() {
    let toy = Arc::new(Toy::new("web"));
    let runtime = Intercepted::new(toy.clone(), vec![Box::new(Forgetful)]).unwrap();
    let error = runtime.start(&id("a")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Internal(_)), "{error:?}");
    assert!(toy.calls().is_empty());
}

#[test]
fn a_layer_cannot_add_a_capability() {
    let error = Intercepted::new(Arc::new(Toy::new("web")), vec![Box::new(Boastful)]).unwrap_err();
    assert!(error.to_string().contains("declares pause"), "{error}");
}

#[tokio::test]
async fn every_operation_reaches_the_method_of_its_name() {
    let toy = Arc::new(Toy::boundless("web"));
    let runtime: SharedRuntime = Arc::new(Intercepted::new(toy.clone(), Vec::new()).unwrap());
    for operation in Operation::ALL {
        toy.forget_calls();
        crate::testing::perform(&runtime, *operation).await;
        let calls = toy.calls();
        assert_eq!(calls.len(), 1, "{operation}: {calls:?}");
        assert_eq!(calls[0].split(' ').next(), Some(operation.id()));
    }
}
