<?php
// PHP's cURL: php caller.php URL [SOCKET]
[, $base] = $argv;
$id = '';
$curl = curl_init();
if (isset($argv[2])) {
    curl_setopt($curl, CURLOPT_UNIX_SOCKET_PATH, $argv[2]);
}
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
curl_setopt($curl, CURLOPT_HEADERFUNCTION, function ($curl, string $line) use (&$id): int {
    if (stripos($line, 'X-Request-Id:') === 0) {
        $id = trim(substr($line, strlen('X-Request-Id:')));
    }
    return strlen($line);
});

function call(string $method, string $url, array $headers, ?string $body): void
{
    global $curl, $id;
    curl_setopt($curl, CURLOPT_URL, $url);
    curl_setopt($curl, CURLOPT_CUSTOMREQUEST, $method);
    curl_setopt($curl, CURLOPT_HTTPHEADER, $headers);
    if ($body === null) {
        curl_setopt($curl, CURLOPT_HTTPGET, true);
    } else {
        curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    }
    $answer = curl_exec($curl);
    if ($answer === false) {
        fwrite(STDERR, curl_error($curl) . "\n");
        exit(1);
    }
    echo $answer, "\n", curl_getinfo($curl, CURLINFO_RESPONSE_CODE), ' ', $id, "\n";
}

$json = 'Content-Type: application/json';
call('PUT', $base . '/v2/customer_sessions/cart%2F1', [$json, 'X-Request-Id: from-caller'], getenv('SESSION'));
call('GET', $base . '/v2/customer_sessions/cart%2F1', [], null);
call('POST', $base . '/v2/events', [$json], getenv('EVENT'));
