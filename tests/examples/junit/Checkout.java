import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.UUID;

/** A piece of a shop that talks to Talon.One: closes a cart, once, also over a bad line. */
final class Checkout {
    private final HttpClient client = HttpClient.newHttpClient();
    private final String url;
    private final String key;

    Checkout(String url, String key) {
        this.url = url;
        this.key = key;
    }

    /** Talon.One's answer, for a JSON library of your choice. Closing is repeated once if the line breaks. */
    String close(String cart, String session) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder()
            .uri(URI.create(url + "/v2/customer_sessions/" + URLEncoder.encode(cart, StandardCharsets.UTF_8)))
            .header("Authorization", "ApiKey-v1 " + key)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", UUID.randomUUID().toString()) // the same for both attempts
            .PUT(BodyPublishers.ofString(session))
            .build();
        HttpResponse<String> answer;
        try {
            answer = client.send(request, BodyHandlers.ofString());
        } catch (IOException broken) {
            answer = client.send(request, BodyHandlers.ofString());
        }
        if (answer.statusCode() != 200) {
            throw new IOException("Talon.One answers " + answer.statusCode());
        }
        return answer.body();
    }
}
