//! `cargo run`, then `curl localhost:7880/hello/you`, `curl localhost:7880/numbers`, and
//! `rsock request ws://localhost:7880/rsocket -r hello -d you`.

use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7880").await?;
    let address = listener.local_addr()?;
    println!("http://{address}/hello/you, http://{address}/numbers and ws://{address}/rsocket");
    let shutdown = async {
        // Without signals it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    rsock_axum_example::serve(listener, shutdown).await
}
