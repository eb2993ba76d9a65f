<?php

declare(strict_types=1);

require_once __DIR__ . '/Checkout.php';

use PHPUnit\Framework\TestCase;

/**
 * SIMULATOR_URL and SIMULATOR_KEY come from the environment. A key `simulator-NAME` opens a world of its own, so this
 * suite can run beside others.
 */
final class CheckoutTest extends TestCase
{
    private const SHOES = [['sku' => 'shoe', 'quantity' => 2, 'price' => 30.0]];

    private string $url;
    private string $key;
    private string $world;

    protected function setUp(): void
    {
        $this->url = getenv('SIMULATOR_URL') ?: 'http://127.0.0.1:9900';
        $this->key = getenv('SIMULATOR_KEY') ?: 'simulator-phpunit';
        $this->world = 'world=' . substr($this->key, strlen('simulator-'));
        $this->control('POST', "reset?{$this->world}");
    }

    public function testACouponTakesItsShareOffTheCart(): void
    {
        $this->assertEqualsWithDelta(6.0, $this->checkout(['WELCOME10'])['discount'], 0.001);
    }

    public function testACouponThatNobodyKnowsIsRefusedByName(): void
    {
        $this->assertSame(['NOPE'], $this->checkout(['NOPE'])['refused']);
    }

    public function testACartIsClosedOnceThoughTheLineBreaksAfterTalonOneHasClosedIt(): void
    {
        $this->control('PUT', "faults?{$this->world}", ['reset-after-read,times=1']);

        $this->assertEqualsWithDelta(6.0, $this->checkout(['WELCOME10'])['discount'], 0.001);

        $journal = $this->control('GET', "journal?{$this->world}&session=cart-1");
        $this->assertSame(['applied', 'replayed'], array_column($journal, 'outcome'));
    }

    public function testAnErrorOfTalonOneIsNotTakenForADiscountOfNothing(): void
    {
        $this->control('PUT', "faults?{$this->world}", ['503']);

        $this->expectExceptionMessage('503');
        $this->checkout([]);
    }

    /** @param list<string> $coupons */
    private function checkout(array $coupons): array
    {
        return (new Checkout($this->url, $this->key))->close('cart-1', 'jane', $coupons, self::SHOES);
    }

    private function control(string $method, string $path, ?array $body = null): mixed
    {
        $request = curl_init("{$this->url}/-/{$path}");
        curl_setopt_array($request, [CURLOPT_CUSTOMREQUEST => $method, CURLOPT_RETURNTRANSFER => true]);
        if ($body !== null) {
            curl_setopt($request, CURLOPT_POSTFIELDS, json_encode($body, JSON_THROW_ON_ERROR));
        }
        $answer = (string) curl_exec($request);

        return $answer === '' ? null : json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
    }
}
