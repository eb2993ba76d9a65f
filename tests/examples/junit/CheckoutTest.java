import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/**
 * SIMULATOR_URL and SIMULATOR_KEY come from the environment. A key `simulator-NAME` opens a world of its own, so this
 * suite can run beside others.
 */
class CheckoutTest {
    private static final String URL = environment("SIMULATOR_URL", "http://127.0.0.1:9900");
    private static final String KEY = environment("SIMULATOR_KEY", "simulator-junit");
    private static final String WORLD = "world=" + KEY.substring("simulator-".length());
    private static final String SHOES = """
        {"customerSession": {"profileId": "jane", "state": "closed", "couponCodes": ["%s"],
                             "cartItems": [{"sku": "shoe", "quantity": 2, "price": 30}]}}""";

    private final HttpClient client = HttpClient.newHttpClient();
    private final Checkout checkout = new Checkout(URL, KEY);

    @BeforeEach
    void anEmptyWorld() throws Exception {
        control("POST", "reset?" + WORLD, "");
    }

    @Test
    void aCouponTakesItsShareOffTheCart() throws Exception {
        String answer = checkout.close("cart-1", SHOES.formatted("WELCOME10"));

        assertTrue(answer.contains("\"effectType\":\"setDiscount\""), answer);
    }

    @Test
    void aCouponThatNobodyKnowsIsRefusedByName() throws Exception {
        String answer = checkout.close("cart-1", SHOES.formatted("NOPE"));

        assertTrue(answer.contains("\"rejectionReason\":\"CouponNotFound\""), answer);
    }

    @Test
    void aCartIsClosedOnceThoughTheLineBreaksAfterTalonOneHasClosedIt() throws Exception {
        control("PUT", "faults?" + WORLD, "[\"reset-after-read,times=1\"]");

        String answer = checkout.close("cart-1", SHOES.formatted("WELCOME10"));

        assertTrue(answer.contains("\"effectType\":\"setDiscount\""), answer);
        String journal = control("GET", "journal?" + WORLD + "&session=cart-1", "");
        assertEquals(List.of("applied", "replayed"), all("\"outcome\":\"(\\w+)\"", journal));
    }

    @Test
    void anErrorOfTalonOneIsNotTakenForADiscountOfNothing() throws Exception {
        control("PUT", "faults?" + WORLD, "[\"503\"]");

        IOException told = assertThrows(IOException.class, () -> checkout.close("cart-1", SHOES.formatted("NOPE")));

        assertEquals("Talon.One answers 503", told.getMessage());
    }

    private String control(String method, String path, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder()
            .uri(URI.create(URL + "/-/" + path))
            .method(method, BodyPublishers.ofString(body))
            .build();
        return client.send(request, BodyHandlers.ofString()).body();
    }

    private static List<String> all(String pattern, String text) {
        return Pattern.compile(pattern).matcher(text).results().map((MatchResult found) -> found.group(1)).toList();
    }

    private static String environment(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
