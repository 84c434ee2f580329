//! Connection strings in the documented forms of their clients.

use super::*;
use crate::model::address::join;

fn found(value: &str) -> Vec<String> {
    let shown = |c: Connection| {
        let store = if c.store { "" } else { " plain" };
        let assumed = if c.assumed { " assumed" } else { "" };
        format!("{}{store}{assumed}", join(&c.address.host, c.address.port))
    };
    connections(value, true, None).into_iter().map(shown).collect()
}

/// Form of a connection string, with its addresses.
const CORPUS: &[(&str, &[&str])] = &[
    // URLs
    ("postgresql+psycopg2://app:canary@db/shop", &["db:5432"]),
    ("postgresql+asyncpg://app:can,ary@db:5433/shop", &["db:5433"]),
    ("postgres://app:ca@na:ry@db:5432/shop?sslmode=disable", &["db:5432"]),
    ("postgresql://app:canary@a:5432,b:5433/shop?target_session_attrs=read-write", &["a:5432", "b:5433"]),
    ("jdbc:postgresql://pg:5432/shop?user=app&password=canary", &["pg:5432"]),
    ("jdbc:mysql://app:canary@db/shop", &["db:3306"]),
    ("jdbc:mysql:loadbalance://a:3306,b:3306/shop", &["a:3306", "b:3306"]),
    ("jdbc:mariadb:failover://a,b/shop", &["a:3306", "b:3306"]),
    ("jdbc:sqlserver://db:1433;databaseName=shop;password=canary", &["db:1433"]),
    ("jdbc:sqlserver://db:1433;user=sa;password=can@ary:80", &["db:1433"]),
    ("jdbc:oracle:thin:@//db:1521/shop", &["db:1521"]),
    ("jdbc:oracle:thin:app/canary@db:1521:XE", &["db:1521"]),
    ("mysql2://app:canary@db/shop", &["db:3306"]),
    ("amqp://guest:canary@mq//", &["mq:5672"]),
    ("amqps://guest:canary@mq/vhost", &["mq:5671"]),
    ("pyamqp://guest:canary@mq//", &["mq:5672"]),
    ("amqp://guest:canary@a:5672;amqp://guest:canary@b:5672", &["a:5672", "b:5672"]),
    ("redis://:canary@cache/0", &["cache:6379"]),
    ("rediss://default:canary@cache:6380/0", &["cache:6380"]),
    ("redis+sentinel://:canary@s1:26379,s2:26379/mymaster/0", &["s1:26379", "s2:26379"]),
    ("db+postgresql://app:canary@db/celery", &["db:5432"]),
    ("cache+memcached://m1:11211;m2:11211/", &["m1:11211"]),
    ("mongodb://app:canary@a:27017,b:27018,c/shop?replicaSet=rs0", &["a:27017", "b:27018", "c:27017"]),
    ("mongodb://app:canary@[fd00::2]:27017/shop", &["[fd00::2]:27017"]),
    ("PLAINTEXT://k1:9092,SSL://k2:9093", &["k1:9092", "k2:9093"]),
    ("nats://n1:4222,nats://n2:4222", &["n1:4222", "n2:4222"]),
    ("mssql+pyodbc://sa:canary@db:1433/shop?driver=x", &["db:1433"]),
    ("smtp://me%40example.org:canary@mail:587", &["mail:587"]),
    ("http://web:8080/health?token=canary", &["web:8080 plain"]),
    ("https://web/?next=http://other:80/", &["web:443 plain"]),
    ("[\"http://es1:9200\", \"http://es2:9200\"]", &["es1:9200", "es2:9200"]),
    ("http://es1:9200 http://es2:9200", &["es1:9200", "es2:9200"]),
    ("tcp://10.0.0.5:6379", &["10.0.0.5:6379"]),
    // libpq
    ("host=db port=5433 dbname=shop user=app password=canary", &["db:5433"]),
    ("host=db user=app password='can ary'", &["db:5432 assumed"]),
    ("host=a,b port=5432,5433 dbname=shop", &["a:5432", "b:5433"]),
    ("dbname=shop host='db' password=canary", &["db:5432 assumed"]),
    // ADO.NET and ODBC
    ("Server=db,1433;Database=shop;User Id=sa;Password=canary", &["db:1433"]),
    ("Server=tcp:db,1433;Initial Catalog=shop;Password=canary", &["db:1433"]),
    ("Data Source=db;Initial Catalog=shop;Password=canary", &["db:1433 assumed"]),
    ("Host=db;Port=5432;Database=shop;Username=app;Password=canary", &["db:5432"]),
    ("Server=db;Port=3306;Database=shop;Uid=app;Pwd=canary", &["db:3306"]),
    ("Driver={ODBC Driver 18};Server=db,1433;PWD=canary", &["db:1433"]),
    // Go's MySQL driver
    ("app:canary@tcp(db:3306)/shop?parseTime=true", &["db:3306"]),
    ("app:c@n(ary@tcp(db)/shop", &["db:3306 assumed"]),
    ("tcp([fd00::2]:3306)/shop", &["[fd00::2]:3306"]),
    // without a scheme
    ("mysql:3306", &["mysql:3306"]),
    ("kafka1:9092,kafka2:9092", &["kafka1:9092", "kafka2:9092"]),
    ("kafka1:9092;kafka2:9092", &["kafka1:9092", "kafka2:9092"]),
    ("[\"es1:9200\", \"es2:9200\"]", &["es1:9200", "es2:9200"]),
    ("cache:6379,password=canary:80,ssl=False", &["cache:6379"]),
    ("db:5432/shop", &["db:5432"]),
    ("[fd00::2]:6379", &["[fd00::2]:6379"]),
    ("http://[fd00::2]", &["[fd00::2]:80 plain"]),
    ("web:8080", &["web:8080 plain"]),
];

/// Values that name no address, or one that is not connected to.
const NONE: &[&str] = &[
    "",
    "db",
    "12:30",
    "/run/postgresql",
    "/var/run/docker.sock:80",
    "unix:///run/app.sock",
    "redis+socket:///run/redis.sock",
    "http+unix://%2Frun%2Fapp.sock/x",
    "sqlite:////data/app.db",
    "file:///etc/app.json",
    "mongodb+srv://app:canary@cluster0.abcde.mongodb.net/shop",
    "_mongodb._tcp.db:27017",
    "app:canary@unix(/run/mysqld.sock)/shop",
    "host=/run/postgresql dbname=shop",
    "Server=(localdb)\\MSSQLLocalDB;Database=shop",
    "Server=db;Database=shop;Uid=app;Pwd=canary",
    "postgresql:///shop",
    "postgresql://${DB_HOST}:5432/shop",
    "http://{{ host }}:80/",
    "http://:80",
    "http://web:99999",
    "foo://web",
    "$HOST:80",
    "<host>:80",
    "{\"a\": \"b:80\"}",
    "a:b:80",
    "db:0",
];

#[test]
fn addresses_in_every_form() {
    for (value, expected) in CORPUS {
        assert_eq!(found(value), *expected, "{value}");
    }
}

#[test]
fn values_without_an_address() {
    for value in NONE {
        assert_eq!(found(value), Vec::<String>::new(), "{value}");
    }
}

#[test]
fn no_part_of_a_login_is_an_address() {
    for (value, _) in CORPUS {
        assert!(!found(value).iter().any(|address| address.contains("canary") || address.contains("ary")), "{value}");
    }
}

#[test]
fn hosts_without_a_port_need_a_known_product() {
    let hosts = |value: &str| {
        connections(value, true, Some(9200)).into_iter().map(|c| join(&c.address.host, c.address.port)).collect::<Vec<_>>()
    };
    assert_eq!(hosts("es1,es2:9201"), ["es1:9200", "es2:9201"]);
    assert_eq!(hosts("es1, es2"), ["es1:9200", "es2:9200"]);
    assert!(connections("es1:9200", false, None).is_empty(), "a variable of another kind");
}

#[test]
fn product_of_a_name() {
    for (name, port) in [
        ("REDIS_HOST", Some(6379)),
        ("WORDPRESS_DB_HOST", Some(3306)),
        ("PGHOST", Some(5432)),
        ("REDIS_SENTINEL_HOST", Some(26379)),
        ("DB_HOST", None),
    ] {
        assert_eq!(port_of_words(name), port, "{name}");
    }
}
