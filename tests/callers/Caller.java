// Java's HttpClient as it is by default, so it asks for h2c on every call: java Caller.java URL
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Caller {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0];
        String session = base + "/v2/customer_sessions/cart%2F1";
        call(HttpRequest.newBuilder(URI.create(session))
            .header("X-Request-Id", "from-caller")
            .header("Content-Type", "application/json")
            .PUT(HttpRequest.BodyPublishers.ofString(System.getenv("SESSION"))));
        call(HttpRequest.newBuilder(URI.create(session)).GET());
        call(HttpRequest.newBuilder(URI.create(base + "/v2/events"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(System.getenv("EVENT"))));
    }

    private static void call(HttpRequest.Builder request) throws Exception {
        HttpResponse<String> answer = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
        String id = answer.headers().firstValue("X-Request-Id").orElse("");
        System.out.println(answer.body() + "\n" + answer.statusCode() + " " + id);
    }
}
