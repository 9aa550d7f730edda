/// Certificates for tests, valid for a hundred years and worth nothing: their keys are here.

enum TestCertificates {
    /// Signed all others.
    static let authority = """
        -----BEGIN CERTIFICATE-----
        MIIBezCCASGgAwIBAgIUH00NEpJxJTrr31G1s6Vx+HEfJWYwCgYIKoZIzj0EAwIw
        EjEQMA4GA1UEAwwHdGVzdCBDQTAgFw0yNjExMjMwNjA0NTBaGA8yMTI2MTAzMDA2
        MDQ1MFowEjEQMA4GA1UEAwwHdGVzdCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEH
        A0IABFU8cYLZV/1bszgz1XT1x1kFcuXxA0S8Fb4Ky+kTwnMvptB0k2o1wHX/Wq7h
        cR5rhqhXnZ1eneWcG1dQExgknYOjUzBRMB0GA1UdDgQWBBS8wqiGqBH/0XzkRV9I
        Y0GD7liEwDAfBgNVHSMEGDAWgBS8wqiGqBH/0XzkRV9IY0GD7liEwDAPBgNVHRMB
        Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIGCsobURkBWNVHxI0Jq+Whuk3Lgl
        zfKH/PxCHablNmGQAiEAuNVmEkMERDnL3W8+dI7gcAq0a1DntDuBrDs/aSh1Tyo=
        -----END CERTIFICATE-----
        """
    /// A server at 127.0.0.1.
    static let byAddress = """
        -----BEGIN CERTIFICATE-----
        MIIBfTCCASOgAwIBAgIUYTHf6/LLbXGXb6p/1IH96bnJdlQwCgYIKoZIzj0EAwIw
        EjEQMA4GA1UEAwwHdGVzdCBDQTAgFw0yNjExMjMwNjA0NTFaGA8yMTI2MTAzMDA2
        MDQ1MVowFDESMBAGA1UEAwwJYnlBZGRyZXNzMFkwEwYHKoZIzj0CAQYIKoZIzj0D
        AQcDQgAE7lcfQGHxq7cdKzKcG7IqzDp0/xOFHe9WqBbU49poM8gfYAj72Nq0Xjcf
        188/5879CGjYqMJHeHqBcjFkZVbIIaNTMFEwDwYDVR0RBAgwBocEfwAAATAdBgNV
        HQ4EFgQUMFkVONfqS5EwoqXngG3YfzYwtUowHwYDVR0jBBgwFoAUvMKohqgR/9F8
        5EVfSGNBg+5YhMAwCgYIKoZIzj0EAwIDSAAwRQIgXgo40GHMT49t9VFBtMJE0JZj
        adVH0bW/Jw2d9FZbMpcCIQCkGXsfDeYedXUMipgTlBiwRG73y/xXMVpQAJDdSUMN
        gA==
        -----END CERTIFICATE-----
        """
    static let byAddressKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgL20WWfYi/NvjBys+
        KG7A/AM3b8Db+a5tGwvMOEI/zDahRANCAATuVx9AYfGrtx0rMpwbsirMOnT/E4Ud
        71aoFtTj2mgzyB9gCPvY2rReNx/Xzz/nzv0IaNiowkd4eoFyMWRlVsgh
        -----END PRIVATE KEY-----
        """
    /// A server called api.test.
    static let byName = """
        -----BEGIN CERTIFICATE-----
        MIIBfTCCASSgAwIBAgIUYTHf6/LLbXGXb6p/1IH96bnJdlUwCgYIKoZIzj0EAwIw
        EjEQMA4GA1UEAwwHdGVzdCBDQTAgFw0yNjExMjMwNjA0NTJaGA8yMTI2MTAzMDA2
        MDQ1MlowETEPMA0GA1UEAwwGYnlOYW1lMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
        QgAEne4UiGnqsRz1wYsYK36OdZ8hKKIBnKJlPWaAeygoqUfTRcpTzEM0mDCsAj7t
        NrnJu85tZmjRN62m/VE/SZIUXqNXMFUwEwYDVR0RBAwwCoIIYXBpLnRlc3QwHQYD
        VR0OBBYEFFM8kECz2niGmnuoheHD3SMF9TBjMB8GA1UdIwQYMBaAFLzCqIaoEf/R
        fORFX0hjQYPuWITAMAoGCCqGSM49BAMCA0cAMEQCIDLh1Hut69o3XZeOD+rVoJzc
        ryBwmgTbIe+fZ5yyzjjyAiAVrYsrWZMfV91/hbnb5bPBhCl/WU1D2aidvzmEqmLn
        KA==
        -----END CERTIFICATE-----
        """
    static let byNameKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMzP/QBU/sJ04ln+U
        bAosohyw8bCBXFZgz79QgWOc3ZahRANCAASd7hSIaeqxHPXBixgrfo51nyEoogGc
        omU9ZoB7KCipR9NFylPMQzSYMKwCPu02ucm7zm1maNE3rab9UT9JkhRe
        -----END PRIVATE KEY-----
        """
    /// For a client.
    static let client = """
        -----BEGIN CERTIFICATE-----
        MIIBfjCCASSgAwIBAgIUYTHf6/LLbXGXb6p/1IH96bnJdlYwCgYIKoZIzj0EAwIw
        EjEQMA4GA1UEAwwHdGVzdCBDQTAgFw0yNjExMjMwNjA0NTNaGA8yMTI2MTAzMDA2
        MDQ1M1owETEPMA0GA1UEAwwGY2xpZW50MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
        QgAE6XzXn6TuegugBFGZ6YHcsvNRF3eVcjRcLlCsxhOuvckYqcPBlliH69w+XtwA
        wVc/f448YI06J5QvLqIEnn3il6NXMFUwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYD
        VR0OBBYEFLiAdwlDjejKkiEF91mKvQXQzxPhMB8GA1UdIwQYMBaAFLzCqIaoEf/R
        fORFX0hjQYPuWITAMAoGCCqGSM49BAMCA0gAMEUCIQDYuXhyrKCZFqmlzHx55WEy
        Q3i8HbJdfDtCC8Atrsvm6QIgNIXb8c2WqmBh1/3Zh1tThZrE2Oc0baNcUm5b8+lr
        F2Y=
        -----END CERTIFICATE-----
        """
    static let clientKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgk1GohfdldgprNBb8
        oQjal+6dXGW6oQQyb5qr9P9lMtChRANCAATpfNefpO56C6AEUZnpgdyy81EXd5Vy
        NFwuUKzGE669yRipw8GWWIfr3D5e3ADBVz9/jjxgjTonlC8uogSefeKX
        -----END PRIVATE KEY-----
        """
}
