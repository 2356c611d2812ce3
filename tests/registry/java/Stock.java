import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;

/**
 * Apicurio's own serializer and deserializer, as a producer of clicks and a consumer of outputs have them.
 *
 * <p>Stock REGISTRY read|write TOPIC: lines of base64 in, JSON out; or one click of each visitor in, base64 out.
 */
public final class Stock {
  private static final String CLICK = """
      {"type": "record", "name": "JavaClick", "namespace": "com.shop", "fields": [
        {"name": "visitor_id", "type": {"type": "string", "avro.java.string": "String"}},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "kind", "type": "string", "aliases": ["event_type"]}]}""";

  private Stock() {}

  public static void main(String[] arguments) throws Exception {
    Map<String, Object> config =
        Map.of("apicurio.registry.url", arguments[0], "apicurio.registry.auto-register", true);
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    if (arguments[1].equals("read")) {
      AvroKafkaDeserializer<GenericRecord> deserializer = new AvroKafkaDeserializer<>();
      deserializer.configure(config, false);
      for (String line; (line = lines.readLine()) != null; ) {
        System.out.println(deserializer.deserialize(arguments[2], Base64.getDecoder().decode(line)));
      }
      return;
    }
    AvroKafkaSerializer<GenericRecord> serializer = new AvroKafkaSerializer<>();
    serializer.configure(config, false);
    for (String visitor; (visitor = lines.readLine()) != null; ) {
      GenericRecord click = new GenericData.Record(new Schema.Parser().parse(CLICK));
      click.put("visitor_id", visitor);
      click.put("timestamp", 1_795_046_400_123_456L);
      click.put("kind", "click");
      byte[] written = serializer.serialize(arguments[2], click);
      System.out.println(Base64.getEncoder().encodeToString(written));
    }
  }
}
