# Varnish beside an evermesh node: PURGE drops one page, BAN drops everything. See docs/http.md.
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
}

# Whoever may empty the cache: the node on this machine.
acl evermesh {
    "localhost";
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.method == "PURGE" || req.method == "BAN") {
        if (client.ip !~ evermesh) {
            return (synth(403, "Not for you"));
        }
        if (req.method == "PURGE") {
            return (purge);
        }
        # Every object that is in the cache now. `std.ban` or xkey would do for parts of it.
        ban("obj.status != 0");
        return (synth(200, "Banned"));
    }
}
