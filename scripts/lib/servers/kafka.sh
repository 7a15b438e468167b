# Apache Kafka: one KRaft node, broker and controller in one process.
# shellcheck shell=bash
# Plain listener for the pool; one over TLS, one over TLS with SCRAM (its users have SCRAM-SHA-512), and the real authorizer,
# so that users and access lists can be tried: `admin` may everything, `stranger` nothing; without SASL everyone is a super
# user. The short session lets a broker that was killed come back sooner: until the old session has expired it is not let in.
# What `group.*` says: docs/decisions/0001.

kafka_variable() { printf %s KAFKA_BROKERS; }
kafka_version() { printf '%s' "$KAFKA_VERSION"; }
kafka_ports() { printf '%s\n' "$(port kafka)" "$(port controller)" "$(port kafka-sasl)" "$(port kafka-tls)"; }
kafka_address() { printf '127.0.0.1:%s' "$(port kafka)"; }
kafka_stop_seconds() { printf %s 30; }
kafka_has_state() { [[ -s $STATE/data/kafka/meta.properties ]]; }

kafka_pom() {
  cat <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>libertum</groupId><artifactId>stack</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$KAFKA_LOG4J_VERSION</version></dependency>
  </dependencies>
</project>
XML
}
kafka_fill() {
  kafka_pom >"$1/pom.xml"
  mvn -q -B -ntp --strict-checksums -f "$1/pom.xml" \
    "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN_VERSION:copy-dependencies" \
    -DoutputDirectory="$1/libs" -DincludeScope=runtime
}
kafka_key() { printf 'kafka-%s-%s' "$KAFKA_VERSION" "$KAFKA_LOG4J_VERSION"; }
kafka_fetch() { cached "$(kafka_key)" kafka_fill "kafka $KAFKA_VERSION"; }

kafka_config() {
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(port controller)
listeners=PLAINTEXT://127.0.0.1:$(port kafka),TLS://127.0.0.1:$(port kafka-tls),SASL://127.0.0.1:$(port kafka-sasl),CONTROLLER://127.0.0.1:$(port controller)
advertised.listeners=PLAINTEXT://127.0.0.1:$(port kafka),TLS://127.0.0.1:$(port kafka-tls),SASL://127.0.0.1:$(port kafka-sasl)
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=$STATE/keys/kafka-server.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
log.dirs=$STATE/data/kafka
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.assignment.interval.ms=0
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=6000
group.consumer.session.timeout.ms=6000
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
group.coordinator.rebalance.protocols=classic,consumer
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
}
kafka_logging() {
  cat <<PROPERTIES
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
PROPERTIES
}
kafka_java() {
  printf '%s\0' java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dlog4j2.configurationFile="$STATE/conf/kafka-log4j2.properties" -Dcom.sun.management.jmxremote=false \
    -cp "$CACHE/$(kafka_key)/libs/*"
}
# A CA of this stack, and the broker's certificate by it; both last as long as the stack does.
kafka_certificates() {
  local keys=$STATE/keys made
  [[ -s $keys/kafka-server.pem ]] && return
  made=$(mktemp -d "$keys/kafka.XXXXXX")
  printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' >"$made/names"
  {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$made/ca.key" -out "$made/ca.pem" -days 3650 -subj '/CN=development CA of a stack' &&
      openssl req -newkey rsa:2048 -nodes -keyout "$made/key.pem" -out "$made/request.pem" -subj /CN=127.0.0.1 &&
      openssl x509 -req -in "$made/request.pem" -CA "$made/ca.pem" -CAkey "$made/ca.key" -CAcreateserial -days 3650 \
        -extfile "$made/names" -out "$made/cert.pem"
  } 2>>"$(log_file kafka)" || die "Kafka's development certificates cannot be made: see $(log_file kafka)"
  mv "$made/ca.pem" "$keys/kafka-ca.pem"
  cat "$made/key.pem" "$made/cert.pem" >"$keys/kafka-server.new"
  mv "$keys/kafka-server.new" "$keys/kafka-server.pem"
  # Nothing else will ever be signed.
  rm -rf "$made"
}
kafka_launch() {
  local java id
  kafka_certificates
  kafka_config >"$STATE/conf/kafka.properties"
  kafka_logging >"$STATE/conf/kafka-log4j2.properties"
  mapfile -d '' -t java < <(kafka_java)
  random_key kafka-admin-password 24
  random_key kafka-stranger-password 24
  if ! kafka_has_state; then
    id=$(openssl rand 16 | base64url)
    "${java[@]}" kafka.tools.StorageTool format --ignore-formatted --cluster-id="$id" -c "$STATE/conf/kafka.properties" \
      --add-scram "SCRAM-SHA-512=[name=admin,password=$(cat "$STATE/keys/kafka-admin-password")]" \
      --add-scram "SCRAM-SHA-512=[name=stranger,password=$(cat "$STATE/keys/kafka-stranger-password")]" >/dev/null 2>>"$(log_file kafka)"
  fi
  process_start kafka "${java[@]}" kafka.Kafka "$STATE/conf/kafka.properties"
}
kafka_ready() { python -I "$ROOT/scripts/lib/probe.py" kafka "$(port kafka)" >/dev/null 2>&1; }
kafka_env() {
  if is_given kafka; then
    pass_on KAFKA_BROKERS KAFKA_SECURITY_PROTOCOL KAFKA_SASL_MECHANISM KAFKA_SASL_USERNAME KAFKA_SASL_PASSWORD KAFKA_SSL_CA_LOCATION
    return
  fi
  export_line KAFKA_BROKERS "$(kafka_address)"
  export_line KAFKA_SECURITY_PROTOCOL plaintext
  export_line STACK_KAFKA_SASL_BROKERS "127.0.0.1:$(port kafka-sasl)"
  export_line STACK_KAFKA_TLS_BROKERS "127.0.0.1:$(port kafka-tls)"
  export_line STACK_KAFKA_CA_FILE "$STATE/keys/kafka-ca.pem"
  export_line STACK_KAFKA_ADMIN_PASSWORD_FILE "$STATE/keys/kafka-admin-password"
  export_line STACK_KAFKA_STRANGER_PASSWORD_FILE "$STATE/keys/kafka-stranger-password"
}
