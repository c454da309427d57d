"""TLS and HTTP/2 in front of a plain server: a certificate authority by the openssl program, and nginx or nghttpx."""

import pathlib
import subprocess

from .process import Process, accepts, free_port, program


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stdout.decode()}")


class Authority:
    """A CA that lives in a folder; `ca.certificate` is what clients are to trust."""

    def __init__(self, folder, name="ca"):
        self.folder = pathlib.Path(folder)
        self.key, self.certificate = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                 "/CN=Test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, hosts=("localhost", "127.0.0.1"), days=2):
        """(key, certificate) for those hosts; days=-1 makes one that has expired."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        names = ",".join(("IP:" if host.replace(".", "").isdigit() else "DNS:") + host for host in hosts)
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={hosts[0]}",
                 "-keyout", key, "-out", request)
        if days > 0:
            _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days",
                     days, "-extfile", extensions, "-out", certificate)
        else:
            self._issue_expired(request, extensions, certificate)
        return key, certificate

    def _issue_expired(self, request, extensions, certificate):
        """`openssl x509` knows no past dates; `openssl ca` does."""
        (self.folder / "index.txt").write_text("")
        (self.folder / "serial").write_text("01\n")
        settings = self.folder / "ca.cnf"
        settings.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index.txt\nserial={self.folder}/serial\n"
                            f"new_certs_dir={self.folder}\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
        _openssl("ca", "-batch", "-config", settings, "-cert", self.certificate, "-keyfile", self.key, "-in", request, "-out",
                 certificate, "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-extfile", extensions, "-notext")


class _Front(Process):
    def __init__(self, arguments, folder, name, port):
        self.port = port
        self.url = f"https://localhost:{port}"
        super().__init__(arguments, folder, name)
        self.wait_ready(lambda: accepts(port))


class NghttpxFront(_Front):
    """HTTP/2 and 1.1 by ALPN; one worker; passes GOAWAY and RST_STREAM on as a real edge does."""

    def __init__(self, folder, backend_port, key, certificate, name="nghttpx", options=(), port=None):
        port = port or free_port()
        settings = pathlib.Path(folder) / f"{name}.conf"
        settings.write_text("")
        super().__init__([program("nghttpx"), f"--conf={settings}", f"--frontend=127.0.0.1,{port}",
                          f"--backend=127.0.0.1,{backend_port}", "--workers=1", "--no-ocsp", "--errorlog-file=/dev/stderr",
                          "--accesslog-file=/dev/null", *options, str(key), str(certificate)], folder, name, port)


class NginxFront(_Front):
    """TLS by nginx, HTTP/1.1 (http2=True: HTTP/2 too), responses not buffered. `protocols`: its ssl_protocols; by default nginx before 1.23.4 knows no TLS 1.3."""

    def __init__(self, folder, backend_port, key, certificate, name="nginx", http2=False, connections=4096, protocols=""):
        port = free_port()
        folder = pathlib.Path(folder)
        (folder / f"{name}.conf").write_text(f"""
daemon off; master_process off; pid {folder}/{name}.pid; error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
    upstream backend {{ server 127.0.0.1:{backend_port}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} ssl{' http2' if http2 else ''};
        {f"ssl_protocols {protocols};" if protocols else ""}
        ssl_certificate {certificate}; ssl_certificate_key {key};
        client_max_body_size 0;
        location / {{
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
            proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;
        }}
    }}
}}
""")
        super().__init__([program("nginx"), "-e", "stderr", "-c", folder / f"{name}.conf", "-p", folder], folder, name, port)
