import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * Makes Kafka's users and access lists equal to access.json, in one start of Java: upserts every user's password, adds
 * what is missing, removes what the table does not name. Run with the broker's libraries on the class path:
 * java -cp '/opt/kafka/libs/*' KafkaAccess.java BROKER CA_FILE ACCESS_JSON SECRETS_DIR
 */
public final class KafkaAccess {
  private static final int ITERATIONS = 8192;
  private static final long SECONDS = 60;

  public static void main(String[] args) throws Exception {
    if (args.length != 4) {
      System.err.println("usage: KafkaAccess BROKER CA_FILE ACCESS_JSON SECRETS_DIR");
      System.exit(64);
    }
    Path secrets = Path.of(args[3]);
    JsonNode users = new ObjectMapper().readTree(Path.of(args[2]).toFile()).get("kafka");
    Properties settings = new Properties();
    settings.put("bootstrap.servers", args[0]);
    settings.put("security.protocol", "SASL_SSL");
    settings.put("ssl.truststore.type", "PEM");
    settings.put("ssl.truststore.location", args[1]);
    settings.put("sasl.mechanism", "SCRAM-SHA-512");
    settings.put(
        "sasl.jaas.config",
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"admin\" password=\""
            + secret(secrets, "admin-kafka-password")
            + "\";");
    settings.put("default.api.timeout.ms", "30000");
    settings.put("request.timeout.ms", "10000");
    try (Admin admin = Admin.create(settings)) {
      List<UserScramCredentialAlteration> passwords = new ArrayList<>();
      Set<AclBinding> wanted = new HashSet<>();
      for (var field : users.properties()) {
        String user = field.getKey();
        passwords.add(
            new UserScramCredentialUpsertion(
                user,
                new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS),
                secret(secrets, user + "-kafka-password")));
        for (JsonNode line : field.getValue()) wanted.add(binding(user, line.asText()));
      }
      admin.alterUserScramCredentials(passwords).all().get(SECONDS, TimeUnit.SECONDS);
      Set<AclBinding> found = new HashSet<>(admin.describeAcls(AclBindingFilter.ANY).values().get(SECONDS, TimeUnit.SECONDS));
      List<AclBinding> missing = wanted.stream().filter(b -> !found.contains(b)).toList();
      List<AclBindingFilter> surplus = found.stream().filter(b -> !wanted.contains(b)).map(AclBinding::toFilter).toList();
      admin.createAcls(missing).all().get(SECONDS, TimeUnit.SECONDS);
      admin.deleteAcls(surplus).all().get(SECONDS, TimeUnit.SECONDS);
      System.out.printf("kafka: %d users, %d entries added, %d removed%n", passwords.size(), missing.size(), surplus.size());
    }
  }

  /** "READ TOPIC name": an operation, a kind of thing, its name, or * for every thing of the kind. */
  private static AclBinding binding(String user, String line) {
    String[] words = line.split(" ");
    if (words.length != 3) throw new IllegalArgumentException("not OPERATION KIND NAME: " + line);
    return new AclBinding(
        new ResourcePattern(ResourceType.valueOf(words[1]), words[2], PatternType.LITERAL),
        new AccessControlEntry("User:" + user, "*", AclOperation.valueOf(words[0]), AclPermissionType.ALLOW));
  }

  private static String secret(Path folder, String name) throws Exception {
    return Files.readString(folder.resolve(name)).strip();
  }
}
