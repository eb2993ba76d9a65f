<?php

declare(strict_types=1);

/** A piece of a shop that talks to Talon.One: closes a cart, once, also over a bad line. */
final class Checkout
{
    public function __construct(private readonly string $url, private readonly string $key)
    {
    }

    /**
     * The discount of a cart, and the coupons that were refused. Closing it is repeated once if the line breaks.
     *
     * @param list<string> $coupons
     * @param list<array{sku: string, quantity: int, price: float}> $items
     * @return array{discount: float, refused: list<string>}
     */
    public function close(string $cart, string $profile, array $coupons, array $items): array
    {
        $session = ['profileId' => $profile, 'state' => 'closed', 'couponCodes' => $coupons, 'cartItems' => $items];
        $request = curl_init($this->url . '/v2/customer_sessions/' . rawurlencode($cart));
        curl_setopt_array($request, [
            CURLOPT_CUSTOMREQUEST => 'PUT',
            CURLOPT_POSTFIELDS => json_encode(['customerSession' => $session], JSON_THROW_ON_ERROR),
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_HTTPHEADER => [
                "Authorization: ApiKey-v1 {$this->key}",
                'Content-Type: application/json',
                'Idempotency-Key: ' . bin2hex(random_bytes(16)), // the same for both attempts
            ],
        ]);
        $answer = curl_exec($request);
        if ($answer === false) {
            $answer = curl_exec($request);
        }
        $status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);
        if ($answer === false || $status !== 200) {
            throw new RuntimeException("Talon.One answers {$status}");
        }
        $result = ['discount' => 0.0, 'refused' => []];
        foreach (json_decode($answer, true, flags: JSON_THROW_ON_ERROR)['effects'] as $effect) {
            match ($effect['effectType']) {
                'setDiscount' => $result['discount'] += $effect['props']['value'],
                'rejectCoupon' => $result['refused'][] = $effect['props']['value'],
                default => null,
            };
        }

        return $result;
    }
}
